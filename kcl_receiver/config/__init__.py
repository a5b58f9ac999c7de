"""Settings: the properties file, KCL's keys, and whose credentials sign."""
