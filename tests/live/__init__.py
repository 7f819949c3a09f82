"""Asks a real project of Google's what the emulator has to guess: `make live`, docs/lab.md."""
