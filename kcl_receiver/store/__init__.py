"""Where blocks and the ledger live."""
