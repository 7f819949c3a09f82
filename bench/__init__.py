"""Measures Heliograph against its targets: `make bench`, or `python -m bench --help`."""
