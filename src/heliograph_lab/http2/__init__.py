"""An HTTP/2 server over TLS for the lab's providers, which can be told to misbehave at each level of the protocol."""

from heliograph_lab.http2.counts import Counts
from heliograph_lab.http2.model import (
    Answer,
    Cut,
    Fault,
    GoAway,
    Handler,
    Limits,
    Outcome,
    Peer,
    Request,
    Reset,
    Script,
    Silence,
)
from heliograph_lab.http2.server import Server
from heliograph_lab.http2.tls import Authority

__all__ = [
    "Answer",
    "Authority",
    "Counts",
    "Cut",
    "Fault",
    "GoAway",
    "Handler",
    "Limits",
    "Outcome",
    "Peer",
    "Request",
    "Reset",
    "Script",
    "Server",
    "Silence",
]
