"""uvicorn's HTTP protocol with one system call an answer: head and body leave together."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class HttpProtocol(HttpToolsProtocol):
    """uvicorn writes an answer's head and body apart, and each write is a system call."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(_Gathering(transport))  # type: ignore[arg-type]

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over as it was."""
        gathering: Any = self.transport
        self.transport = gathering.flushed()
        super().handle_websocket_upgrade()


class _Gathering:
    """A transport whose writes of one turn of the loop leave together at its end."""

    __slots__ = ("_held", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Send at the end of this turn."""
        if not self._held:
            asyncio.get_running_loop().call_soon(self.flushed)
        self._held.append(data)

    def flushed(self) -> asyncio.Transport:
        """Send now."""
        if self._held:
            held, self._held = self._held, []
            self._transport.write(b"".join(held))
        return self._transport

    def close(self) -> None:
        """Send what is held, then hang up."""
        self.flushed().close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
