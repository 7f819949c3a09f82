"""Serving on loopback with uvicorn, several services in one process, and connections that can be cut."""

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from heliograph_lab.service import CUT, ASGIApp, Receive, Scope, Send


class ListenError(RuntimeError):
    """An address that cannot be listened on; the message names it."""


class CuttableProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which also hands the app a way to drop the connection without an answer."""

    def on_message_begin(self) -> None:
        """Offer the cut with each request."""
        super().on_message_begin()
        self.scope["extensions"] = {CUT: self.transport.abort}  # type: ignore[dict-item]


class _Server(uvicorn.Server):
    """The process's signals belong to the process, not to one of its servers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Listener:
    """One ASGI app on one socket."""

    def __init__(self, app: ASGIApp, bound: socket.socket) -> None:
        self._socket = bound
        host, self.port = bound.getsockname()[:2]
        self.url = f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"
        config = uvicorn.Config(
            app,
            http=CuttableProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,  # long polls and delays end with the lab
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return once connections are accepted."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise ListenError(f"the server on {self.url} ended at once")
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Finish what is being answered, for a moment, then close."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task


class LoopbackNames:
    """Refuses requests that call this machine by another name than a loopback one.

    Without it a web page could have its own name resolve to 127.0.0.1 and read, through the user's browser, what the
    lab has recorded.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        host = next((value for name, value in scope.get("headers", ()) if name == b"host"), b"").decode("latin-1")
        if _is_loopback(urlsplit(f"//{host}").hostname or ""):
            await self._app(scope, receive, send)
            return
        content = b'{"error":"call the lab by a loopback address"}'
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": 400, "headers": headers})
        await send({"type": "http.response.body", "body": content})


def quiet_end() -> None:
    """Requests that are still being answered when the lab ends are no error, and nobody wants their traceback."""

    def keep(record: logging.LogRecord) -> bool:
        ended = record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)
        return not ended and "timeout graceful shutdown exceeded" not in record.getMessage()

    logging.getLogger("uvicorn.error").addFilter(keep)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def require_loopback(host: str) -> None:
    """The lab shows secrets to whoever asks: it is never reachable from another machine."""
    if not _is_loopback(host):
        raise ListenError(f"the lab listens on loopback only, not on {host}")


def bind(host: str, port: int, what: str) -> socket.socket:
    """A listening socket; ListenError naming service and port when that is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(2048)
    except OSError as error:
        bound.close()
        raise ListenError(f"the lab cannot listen on {host}:{port} for {what}: {error.strerror}") from None
    bound.setblocking(False)
    return bound
