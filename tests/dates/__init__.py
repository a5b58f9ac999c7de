"""Runs the tests at other dates, in other zones and locales: `scripts/dates`."""
