"""The control API's part for the providers' connections: what they have seen, their SETTINGS, how they end."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from heliograph_lab.faults import ERROR_CODES
from heliograph_lab.http2.model import GoAway, Limits
from heliograph_lab.http2.server import Server
from heliograph_lab.web import Reply, Request, Router

_Number = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class _GoAway(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    after: _Number = 0
    graceful: bool = False
    below: _Number = 0
    unanswered: _Number = 0
    code: str = "NO_ERROR"
    debug: str = ""
    times: Annotated[int, Meta(ge=1)] | None = None


class _Patch(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    max_concurrent_streams: _Number | None = None
    initial_window_size: _Number | None = None
    go_away: _GoAway | None = None
    frozen: bool | None = None
    cut: bool = False


class ConnectionControl:
    """Routes under `/connections/{service}`."""

    def __init__(self, servers: dict[str, Server]) -> None:
        self._servers = servers

    def add_to(self, control: Router) -> None:
        """Add the routes to the control API."""
        control.add("GET", "/connections/{service}", self._show)
        control.add("PUT", "/connections/{service}", self._put)
        control.add("DELETE", "/connections/{service}", self._reset)

    async def _show(self, request: Request) -> Reply:
        return Reply(_shown(self._server(request)))

    async def _put(self, request: Request) -> Reply:
        server = self._server(request)
        try:
            patch = msgspec.convert(request.json(), _Patch)
        except msgspec.ValidationError as error:
            raise ValueError(f"connections: {error}") from None
        plan = _plan(patch.go_away) if patch.go_away is not None else None
        server.change(
            max_concurrent_streams=patch.max_concurrent_streams, initial_window_size=patch.initial_window_size
        )
        if plan is not None and plan.after == 0:
            server.leave(plan)  # those that are open; a later one could do nothing but leave
        elif plan is not None and patch.go_away is not None:
            server.plan, server.plan_times = plan, patch.go_away.times
        if patch.frozen is not None:
            server.freeze(patch.frozen)
        if patch.cut:
            server.cut()
        return Reply(_shown(server))

    async def _reset(self, request: Request) -> Reply:
        server = self._server(request)
        server.plan = server.plan_times = None
        defaults = Limits()
        server.change(
            max_concurrent_streams=defaults.max_concurrent_streams, initial_window_size=defaults.initial_window_size
        )
        server.freeze(False)
        server.counts.clear()
        return Reply(_shown(server))

    def _server(self, request: Request) -> Server:
        service = request.params["service"]
        if service not in self._servers:
            raise ValueError(f"connections: must be those of {' or '.join(self._servers)}")
        return self._servers[service]


def _plan(wanted: _GoAway) -> GoAway:
    if wanted.code not in ERROR_CODES:
        raise ValueError(f"goAway.code: must be one of {', '.join(ERROR_CODES)}")
    return GoAway(
        after=wanted.after,
        graceful=wanted.graceful,
        below=wanted.below,
        unanswered=wanted.unanswered,
        code=ERROR_CODES[wanted.code],
        debug=wanted.debug.encode(),
    )


def _shown(server: Server) -> dict[str, Any]:
    counts: dict[str, Any] = msgspec.to_builtins(server.counts)
    del counts["seen_by_id"], counts["processed_by_id"]
    return {**counts, "ids": len(server.counts.seen_by_id), "duplicates": server.counts.duplicates()}
