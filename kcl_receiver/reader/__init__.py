"""Reading what is stored, once per record, and proving that nothing is missing.

coverage.py   what the ranges of one shard prove, and which rows count; arithmetic alone
verify.py     a whole store against its ledger
"""
