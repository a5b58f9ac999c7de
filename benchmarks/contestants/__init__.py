"""What is measured beside the receiver: record processors as one would write them on kclpy, and a reader of nothing.

Each is a program of its own, and imports nothing of the benchmarks or of kcl_receiver.
"""
