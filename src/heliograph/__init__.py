"""Heliograph: a self-hosted command and push server for fleets of managed devices."""
