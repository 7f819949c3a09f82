"""Ports that are chosen at run time."""

from heliograph_lab.ports import bind_lasting


def free_port() -> int:
    """A port on which nobody listens, and that no connection takes meanwhile or between two starts."""
    with bind_lasting("127.0.0.1", "a test") as probe:
        port: int = probe.getsockname()[1]
        return port
