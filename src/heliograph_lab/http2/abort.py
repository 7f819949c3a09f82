"""Cutting a TCP connection under TLS."""

import asyncio
import contextlib
import os
import socket
import struct
from typing import Literal


def abort(transport: asyncio.Transport, how: Literal["rst", "fin"]) -> None:
    """End it at once, without TLS's farewell."""
    inner = transport.get_extra_info("socket")
    if inner is not None:  # else it has ended already
        with contextlib.suppress(OSError):
            _arrange(inner.fileno(), how)
    transport.abort()


def _arrange(descriptor: int, how: Literal["rst", "fin"]) -> None:
    # What the loops hand out cannot do all that a socket can; another descriptor of the same connection can.
    with socket.socket(fileno=os.dup(descriptor)) as bound:
        if how == "rst":
            # Lingering for no time means RST instead of FIN.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            # What was received and not read would turn the FIN into an RST: the sending half goes first.
            bound.shutdown(socket.SHUT_WR)
