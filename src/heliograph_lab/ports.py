"""The ports of the lab's services: chosen once, then the same at each start on the same directory."""

import socket

from heliograph_lab.kernel import Kernel
from heliograph_lab.transport import bind

_NAMESPACE = "lab"
_KEY = "ports"


async def bind_all(kernel: Kernel, host: str, wanted: dict[str, int]) -> dict[str, socket.socket]:
    """A listening socket per service. 0 means: the port of the last start, or any free one. Raises ListenError."""
    known: dict[str, int] = kernel.state.get(_NAMESPACE, _KEY) or {}
    sockets: dict[str, socket.socket] = {}
    try:
        for service, port in wanted.items():
            sockets[service] = bind(host, port or known.get(service, 0), service)
    except Exception:
        for bound in sockets.values():
            bound.close()
        raise
    await kernel.state.put(_NAMESPACE, _KEY, {service: bound.getsockname()[1] for service, bound in sockets.items()})
    return sockets
