"""The HTTP application: the table of operations, mounted in Litestar behind the edge."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog
from litestar import Litestar, Request, Response
from litestar.handlers import HTTPRouteHandler

from heliograph.app.access import Access, RateLimiter
from heliograph.app.push_status import PushStatusReader
from heliograph.app.services import Services
from heliograph.domain.errors import PermissionMissing
from heliograph.domain.permissions import allows
from heliograph.http import android_commands, aosp_commands, devices, organizations, push, setup
from heliograph.http.agent_gateway import AgentGateway
from heliograph.http.edge import ASGIApp, Edge, Routes
from heliograph.http.health import Health
from heliograph.http.metrics import exposition
from heliograph.http.openapi import document
from heliograph.http.operations import Api, Operation, bearer_token, run
from heliograph.http.problems import problem_of
from heliograph_protocol.messages import CHECK_IN_PATH, REGISTER_PATH

OPERATIONS: tuple[Operation, ...] = (
    *android_commands.OPERATIONS,
    *aosp_commands.OPERATIONS,
    *devices.OPERATIONS,
    *push.OPERATIONS,
    *organizations.OPERATIONS,
    *setup.OPERATIONS,
)
METRICS_PERMISSION = "operator.metrics"

PAGE = (Path(__file__).parent / "static" / "reference.html").read_bytes()

Endpoint = Callable[[Request[Any, Any, Any]], Awaitable[Response[bytes]]]


def build_app(services: Services, access: Access, health: Health, requests_per_minute: int = 0) -> ASGIApp:
    """The ASGI application of one process."""
    log = structlog.get_logger("heliograph.http")
    api = Api(services, access, RateLimiter(requests_per_minute), PushStatusReader(services), log)
    gateway = AgentGateway(services, access, log)
    routes: list[tuple[str, str, Endpoint]] = [(o.method, o.path, _endpoint(api, o)) for o in OPERATIONS]
    routes += [
        ("POST", REGISTER_PATH, gateway.register),
        ("POST", CHECK_IN_PATH, gateway.check_in),
        *_service_routes(api, health),
    ]
    litestar = Litestar(
        route_handlers=[_handler(method, path, endpoint, log) for method, path, endpoint in routes],
        openapi_config=None,  # ours is built from the same table: see the ADR on the order of refusals
        logging_config=None,
    )
    return Edge(litestar, Routes((method, path) for method, path, _ in routes), gateway.line, log)  # type: ignore[arg-type]


def _endpoint(api: Api, operation: Operation) -> Endpoint:
    async def endpoint(request: Request[Any, Any, Any]) -> Response[bytes]:
        return await run(api, operation, request)

    return endpoint


def _handler(method: str, path: str, endpoint: Endpoint, log: Any) -> HTTPRouteHandler:
    """One Litestar handler; errors become the contract's envelope here, with the request id at hand."""

    async def handle(request: Request[Any, Any, Any]) -> Response[bytes]:
        try:
            return await endpoint(request)
        except Exception as error:
            request_id = str(request.scope.get("request_id", ""))
            problem = problem_of(error, request_id)
            if problem.status == 500:
                log.exception("http.fault", request_id=request_id, route=path, method=method)
            return Response(
                problem.body(),
                status_code=problem.status,
                media_type="application/json; charset=utf-8",
                headers=problem.headers,
            )

    methods: Sequence[Any] = [method, "HEAD"] if method == "GET" else [method]
    return HTTPRouteHandler(_litestar_path(path), http_method=methods, status_code=200)(handle)


def _litestar_path(path: str) -> str:
    return path.replace("}", ":str}")


def _service_routes(api: Api, health: Health) -> list[tuple[str, str, Endpoint]]:
    openapi = msgspec.json.encode(document(OPERATIONS))

    async def healthz(_: Request[Any, Any, Any]) -> Response[bytes]:
        return _plain(b'{"status":true}')

    async def readyz(_: Request[Any, Any, Any]) -> Response[bytes]:
        faults = await health.faults()
        return _plain(msgspec.json.encode({"status": not faults, "faults": faults}), 503 if faults else 200)

    async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
        principal = await api.access.principal(bearer_token(request.headers.get("authorization")))
        if not allows(principal.permissions, METRICS_PERMISSION):
            raise PermissionMissing
        counts = await api.services.store.system.counts()
        return _plain(exposition(counts), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def openapi_json(_: Request[Any, Any, Any]) -> Response[bytes]:
        return _plain(openapi)

    async def docs(_: Request[Any, Any, Any]) -> Response[bytes]:
        return _plain(PAGE, media_type="text/html; charset=utf-8")

    return [
        ("GET", "/healthz", healthz),
        ("GET", "/readyz", readyz),
        ("GET", "/metrics", metrics),
        ("GET", "/openapi.json", openapi_json),
        ("GET", "/docs", docs),
        ("GET", "/", docs),
    ]


def _plain(body: bytes, status: int = 200, media_type: str = "application/json; charset=utf-8") -> Response[bytes]:
    return Response(body, status_code=status, media_type=media_type)
