"""Reading a store: every record once and in order, and holes told."""
