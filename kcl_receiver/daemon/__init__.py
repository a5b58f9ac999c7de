"""Builds and supervises the java MultiLangDaemon."""
