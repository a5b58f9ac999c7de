"""A simulated fleet: the real receiver on N hosts, in one thread, on virtual time, under one seed."""
