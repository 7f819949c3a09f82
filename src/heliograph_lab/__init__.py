"""Emulators and the fleet simulator: all of Heliograph can be tried offline."""
