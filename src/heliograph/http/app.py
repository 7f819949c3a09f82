"""The HTTP application: the table of operations, behind the edge."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import structlog

from heliograph.app.access import Access, RateLimiter
from heliograph.app.push_status import PushStatusReader
from heliograph.app.services import Services
from heliograph.domain.errors import PermissionMissing
from heliograph.domain.permissions import allows
from heliograph.http import android_commands, aosp_commands, devices, organizations, push, setup
from heliograph.http.agent_gateway import AgentGateway
from heliograph.http.answers import Answer, Request
from heliograph.http.edge import ASGIApp, Edge, Endpoint, Routes
from heliograph.http.google_notifications import PATH as NOTIFICATIONS_PATH
from heliograph.http.google_notifications import GoogleNotifications
from heliograph.http.health import Health
from heliograph.http.metrics import exposition
from heliograph.http.openapi import document
from heliograph.http.operations import Api, Operation, bearer_token, run
from heliograph_protocol.messages import CHECK_IN_PATH, LINE_PATH, REGISTER_PATH

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


@dataclass(frozen=True, slots=True)
class Rates:
    """What callers may ask for in a minute, each; 0 = no limit."""

    key: int = 0
    organization: int = 0
    device: int = 0


def build_app(services: Services, access: Access, health: Health, rates: Rates | None = None) -> ASGIApp:
    """The ASGI application of one process."""
    rates = rates or Rates()
    log = structlog.get_logger("heliograph.http")
    api = Api(
        services, access, RateLimiter(rates.key), RateLimiter(rates.organization), PushStatusReader(services), log
    )
    gateway = AgentGateway(services, access, RateLimiter(rates.device), log)
    notifications = GoogleNotifications(services)
    routes: list[tuple[str, str, Endpoint]] = [(o.method, o.path, partial(run, api, o)) for o in OPERATIONS]
    routes += [
        ("POST", REGISTER_PATH, gateway.register),
        ("POST", CHECK_IN_PATH, gateway.check_in),
        ("POST", NOTIFICATIONS_PATH, notifications.take),
        *_service_routes(api, health),
    ]
    return Edge(Routes(routes), gateway.line, LINE_PATH, log, {NOTIFICATIONS_PATH: notifications.pass_over})


def _service_routes(api: Api, health: Health) -> list[tuple[str, str, Endpoint]]:
    openapi = msgspec.json.encode(document(OPERATIONS))

    async def healthz(_: Request) -> Answer:
        return Answer(b'{"status":true}')

    async def readyz(_: Request) -> Answer:
        faults = await health.faults()
        return Answer(msgspec.json.encode({"status": not faults, "faults": faults}), 503 if faults else 200)

    async def metrics(request: Request) -> Answer:
        principal = await api.access.principal(bearer_token(request.header(b"authorization")))
        if not allows(principal.permissions, METRICS_PERMISSION):
            raise PermissionMissing
        counts = await api.services.store.system.counts()
        return Answer(exposition(counts), media_type=b"text/plain; version=0.0.4; charset=utf-8")

    async def openapi_json(_: Request) -> Answer:
        return Answer(openapi)

    async def docs(_: Request) -> Answer:
        return Answer(PAGE, media_type=b"text/html; charset=utf-8")

    return [
        ("GET", "/healthz", healthz),
        ("GET", "/readyz", readyz),
        ("GET", "/metrics", metrics),
        ("GET", "/openapi.json", openapi_json),
        ("GET", "/docs", docs),
        ("GET", "/", docs),
    ]
