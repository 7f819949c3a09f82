"""The server: listens, hands out the limits, follows the script, counts."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from heliograph_lab.http2.connection import Connection
from heliograph_lab.http2.counts import Counts, Identify
from heliograph_lab.http2.model import Cut, GoAway, Handler, Limits, Peer, Script
from heliograph_lab.transport import bind


class Server:
    """HTTP/2 over TLS on loopback, in the event loop of `start`.

    `handler` gets each complete request and returns an outcome, or an awaitable of one. Its coroutine goes on when the
    client has gone. `identify` names a request for the counts by id. These may be changed at any time: `script`, which
    sees each request first and may have it fail; `limits` of later connections; `plan`, how later connections leave.
    `greet` gets each new connection before anything is written. `url` and `port` are known once `start` has returned.
    """

    def __init__(
        self,
        handler: Handler,
        tls: ssl.SSLContext,
        *,
        limits: Limits | None = None,
        identify: Identify | None = None,
        script: Script | None = None,
        greet: Callable[[Peer], None] | None = None,
    ) -> None:
        self.handler = handler
        self.identify = identify
        self.script = script
        self.greet = greet
        self.limits = limits or Limits()
        self.plan: GoAway | None = None
        self.plan_times: int | None = None  # so many connections follow the plan; None: all
        self.counts = Counts()
        self.tls = tls
        self.port = 0
        self.url = ""
        self._frozen = False
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._listening: asyncio.Server | None = None

    async def start(self, bound: socket.socket | None = None) -> None:
        """Accept connections on this listening socket, or on a free port of 127.0.0.1."""
        bound = bound or bind("127.0.0.1", 0, "HTTP/2")
        host, self.port = bound.getsockname()[:2]
        self.url = f"https://[{host}]:{self.port}" if ":" in host else f"https://{host}:{self.port}"
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(self._connection, sock=bound, ssl=self.tls, backlog=2048)

    async def stop(self) -> None:
        """Cut what is connected, end what is being processed."""
        if self._listening is not None:
            self._listening.close()
        for connection in list(self._connections):
            connection.end(Cut())
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._listening is not None:
            await self._listening.wait_closed()

    # ------------------------------------------------------------ faults of connections

    def leave(self, plan: GoAway) -> None:
        """GOAWAY on every connection that is open now; `after` counts each one's requests from its beginning."""
        for connection in list(self._connections):
            connection.leave(plan)

    def change(self, *, max_concurrent_streams: int | None = None, initial_window_size: int | None = None) -> None:
        """Other SETTINGS, on open connections and on later ones."""
        wanted = {"max_concurrent_streams": max_concurrent_streams, "initial_window_size": initial_window_size}
        given = {name: value for name, value in wanted.items() if value is not None}
        self.limits = msgspec.structs.replace(self.limits, **given)
        for connection in self._connections:
            connection.change(**given)

    def cut(self, how: Cut | None = None) -> None:
        """End every open connection at once."""
        for connection in list(self._connections):
            connection.end(how or Cut())

    def freeze(self, frozen: bool = True) -> None:
        """Read nothing more on any connection, PINGs included (a black hole), or read on."""
        self._frozen = frozen
        for connection in self._connections:
            connection.freeze(frozen)

    # ------------------------------------------------------------ for the connections

    def _connection(self) -> Connection:
        plan = self.plan
        if plan is not None and self.plan_times is not None:
            self.plan_times -= 1
            if self.plan_times <= 0:
                self.plan = self.plan_times = None
        return Connection(self, plan)

    def joined(self, connection: Connection) -> None:
        """A connection has its TLS."""
        self.counts.connections += 1
        self.counts.open += 1
        connection.number = self.counts.connections
        self._connections.add(connection)
        if self.greet is not None:
            self.greet(connection)
        if self._frozen:
            connection.freeze(True)

    def left(self, connection: Connection) -> None:
        """A connection has ended."""
        self.counts.open -= 1
        self._connections.discard(connection)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something that outlives its connection."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
