"""Messages and framing between processor and generator, without I/O."""
