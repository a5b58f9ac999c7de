"""An embedded AWS for the demo, the tests and users' own trials."""
