"""Reads lost records again from Kinesis, and proves that they are the ones that were stored.

kpl_message.py   the protobuf message of a KPL aggregate, as protobuf-java reads it
deaggregate.py   a Kinesis record to the user records that KCL delivers of it
"""
