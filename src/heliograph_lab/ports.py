"""The ports of the lab's services: chosen once, then the same at each start on the same directory."""

import contextlib
import random
import socket
from pathlib import Path

from heliograph_lab.kernel import Kernel
from heliograph_lab.transport import ListenError, bind

_NAMESPACE = "lab"
_KEY = "ports"

_LOWEST = 10_000
_OF_CONNECTIONS = Path("/proc/sys/net/ipv4/ip_local_port_range")  # absent where this is no Linux
_OF_CONNECTIONS_ELSEWHERE = 49_152  # https://www.rfc-editor.org/rfc/rfc6335#section-6
_TRIES = 20


async def bind_all(kernel: Kernel, host: str, wanted: dict[str, int]) -> dict[str, socket.socket]:
    """A listening socket per service. 0 means: the port of the last start, or any free one. Raises ListenError."""
    known: dict[str, int] = kernel.state.get(_NAMESPACE, _KEY) or {}
    sockets: dict[str, socket.socket] = {}
    try:
        for service, asked in wanted.items():
            port = asked or known.get(service, 0)
            sockets[service] = bind(host, port, service) if port else bind_lasting(host, service)
    except Exception:
        for bound in sockets.values():
            bound.close()
        raise
    await kernel.state.put(_NAMESPACE, _KEY, {service: bound.getsockname()[1] for service, bound in sockets.items()})
    return sockets


def bind_lasting(host: str, what: str) -> socket.socket:
    """A listening socket on a free port that nobody's outgoing connection takes between two starts.

    The kernel's own choice for port 0 is one of those that it gives to connections, too. ListenError as `bind`.
    """
    for _ in range(_TRIES if (end := _lowest_of_connections()) > _LOWEST else 0):
        with contextlib.suppress(ListenError):
            return bind(host, random.randrange(_LOWEST, end), what)  # noqa: S311 - no secret
    return bind(host, 0, what)


def _lowest_of_connections() -> int:
    try:
        return int(_OF_CONNECTIONS.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return _OF_CONNECTIONS_ELSEWHERE
