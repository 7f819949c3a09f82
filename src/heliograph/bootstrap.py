"""Wiring: the only file that knows every layer."""

import asyncio
import errno
import gc
import os
import resource
import secrets
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import structlog
import uvicorn

from heliograph.app.access import KEYS_TOPIC, Access
from heliograph.app.dispatch import Dispatcher
from heliograph.app.effects import EFFECTS
from heliograph.app.listening import listen_forever
from heliograph.app.quota import AccountQuotas, Quota
from heliograph.app.reconcile import reconcile_forever
from heliograph.app.services import Limits, Services
from heliograph.app.sweep import sweep_forever
from heliograph.channels import AmapiChannels, AmapiSettings
from heliograph.channels.amapi import BASE_URL
from heliograph.domain.errors import StoreUnavailable
from heliograph.domain.ids import IdMinter
from heliograph.http.app import Rates, build_app
from heliograph.http.health import Health
from heliograph.http.server_protocol import ConnectionLimits, HttpProtocol, LineProtocol
from heliograph.operator_socket import serve_operator
from heliograph.outbound.google import TOKEN_ADDRESSES
from heliograph.ports.clock import SecretBox
from heliograph.ports.push import Tools
from heliograph.ports.store import Store
from heliograph.providers import ProviderRegistry, accounts_in, discover
from heliograph.providers.transport import Connections
from heliograph.settings import Settings
from heliograph.store import PostgresStore, SqliteStore, migrate
from heliograph.store.postgres_hub import PostgresHub
from heliograph.store.serving import may_read_key, open_directory
from heliograph.store.wakeups import Hub
from heliograph.system import (
    KEY_FILE,
    AesGcmBox,
    SystemClock,
    adopt_next_key,
    fingerprint_of,
    load_secret_key,
    make_secret_key,
)
from heliograph_protocol.messages import MAX_MESSAGE_BYTES

log = structlog.get_logger("heliograph")

_BACKLOG = 2048
_SHUTDOWN_S = 3
_KEEP_ALIVE_S = 75
_FILES_KEPT = 2304  # among them one for each request that waits for a provider (app.places)
_LOST = (
    "If it is lost, the stored provider and enterprise credentials are lost with it and must be entered again: "
    "heliograph db forget-secrets"
)


@dataclass(frozen=True, slots=True)
class Node:
    """What one process has opened."""

    settings: Settings
    services: Services
    access: Access


class StartRefused(Exception):
    """This process must not start; the message says why and what to do."""


@asynccontextmanager
async def open_node(settings: Settings, *, briefly: bool = False) -> AsyncIterator[Node]:
    """Open the store (migrated), the secret box, the providers and channels; close them at the end.

    `briefly`: for one command. A server waits for commands that work in its data directory.
    """
    async with AsyncExitStack() as stack:
        given = _given_key(settings)
        store, hub = await _open_store(settings, stack, briefly)
        if not await may_read_key(store, hub):
            raise StartRefused("the secret key of this database is being replaced: start again when that is done")
        await migrate(store)
        key = await _key_of(store, settings, given)
        high_water = await store.high_water()
        clock = SystemClock(high_water)
        limits = _limits(settings)
        if high_water > time.time_ns() // 1000 + 2_000_000:  # the wall clock is behind what was written before
            await store.clamp_times(clock.now(), int(limits.backoff_cap_s * 1_000_000))
        box = AesGcmBox(key)
        connections = Connections(clock)
        stack.push_async_callback(connections.close)
        providers = ProviderRegistry(discover(), accounts_in(store), box, Tools(clock, connections))
        channels = _channels(settings, store, box)
        stack.push_async_callback(providers.close)
        stack.push_async_callback(channels.close)
        minter = IdMinter(lambda: clock.now() / 1e6, secrets.token_bytes, not_before=high_water / 1e6)
        quota = Quota(store.system, clock, settings.amapi_requests_per_minute)
        services = Services(
            store,
            clock,
            minter,
            hub,
            box,
            providers,
            channels,
            limits,
            quota=quota,
            account_quotas=AccountQuotas(store.system, clock),
        )
        access = Access(services)
        yield Node(settings, services, access)


@asynccontextmanager
async def with_google_at(node: Node, settings: Settings) -> AsyncIterator[Node]:
    """An open node whose Google is where other settings say; its channels are closed after the body, the rest stays.

    For emulators that are started only when the node is known to be allowed to start. Nothing may work with `node` yet.
    """
    channels = _channels(settings, node.services.store, node.services.secrets)
    services = replace(node.services, channels=channels, limits=_limits(settings))
    try:
        yield Node(settings, services, Access(services))
    finally:
        await channels.close()


def _channels(settings: Settings, store: Store, box: SecretBox) -> AmapiChannels:
    amapi = AmapiSettings(settings.amapi_url, settings.pubsub_url, settings.google_certs_url)
    return AmapiChannels(lambda org, id_: store.unit_of_work(org).setup.enterprise(id_), box, amapi)


async def _open_store(
    settings: Settings, stack: AsyncExitStack, briefly: bool
) -> tuple[SqliteStore | PostgresStore, Hub]:
    if settings.database is None:
        hub = Hub()
        store: SqliteStore | PostgresStore = await open_directory(settings.data_dir, hub, briefly=briefly)
    else:
        dsn = settings.database.get_secret_value()
        hub = PostgresHub(dsn)
        stack.push_async_callback(hub.close)
        store = await PostgresStore.open(dsn, hub)
        hub.start()  # not before: where the database cannot be had, the store says why
    stack.push_async_callback(store.close)
    return store, hub


def _given_key(settings: Settings) -> bytes | None:
    text = settings.secret_key.get_secret_value() if settings.secret_key else None
    path = settings.data_dir / KEY_FILE
    try:
        return load_secret_key(text, path)
    except ValueError as error:
        raise StartRefused(str(error)) from None
    except OSError as error:
        raise StartRefused(f"{path} cannot be read: {error.strerror}") from None


async def _key_of(store: SqliteStore | PostgresStore, settings: Settings, given: bytes | None) -> bytes:
    """The key that the database's secrets are sealed with; made where nothing was sealed yet. Refuses any other."""
    path = settings.data_dir / KEY_FILE
    if settings.secret_key is None:
        adopt_next_key(path, await store.known_fingerprint())
        given = _given_key(settings)
    if given is None and await store.known_fingerprint() is not None:
        raise StartRefused(
            f"{KEY_FILE} is missing in {settings.data_dir}: put back the file that this database's secrets are "
            f"encrypted with, or its content into HELIOGRAPH_SECRET_KEY. {_LOST}"
        )
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = make_secret_key(path) if given is None else given
    except OSError as error:
        raise StartRefused(f"{path} cannot be made: {error.strerror}") from None
    mine = fingerprint_of(key).hex()
    if await store.fingerprint(mine) != mine:
        if given is None:  # another process with a directory of its own was faster
            path.unlink(missing_ok=True)
        raise StartRefused(
            "the secret key is not the one that this database's secrets are encrypted with. Put the right key into "
            f"HELIOGRAPH_SECRET_KEY or {KEY_FILE}. {_LOST}"
        )
    return key


def _limits(settings: Settings) -> Limits:
    return Limits(
        cancel_wait_s=settings.cancel_wait_s,
        push_status_timeout_s=settings.push_status_timeout_s,
        lease_s=settings.lease_s,
        backoff_cap_s=settings.backoff_cap_s,
        uncertainty_window_s=settings.uncertainty_window_s,
        retry_after_cap_s=settings.retry_after_cap_s,
        reconcile_every_s=settings.reconcile_every_s,
        device_missing_s=settings.device_missing_s,
        esim_pause_s=settings.esim_pause_s,
        look_up_cap_s=settings.look_up_cap_s,
        look_ups_per_minute=settings.look_ups_per_minute,
        dispatch_concurrency=settings.dispatch_concurrency,
        addresses=_tenant_addresses(settings),
    )


def _tenant_addresses(settings: Settings) -> frozenset[str]:
    named = [address.strip().rstrip("/") for address in settings.tenant_addresses.split(",")]
    return frozenset([BASE_URL, settings.amapi_url.rstrip("/"), *TOKEN_ADDRESSES, *filter(None, named)])


@asynccontextmanager
async def background(coroutines: list[Any]) -> AsyncIterator[None]:
    """Run loops beside the body and end them after it. A loop that breaks ends the body too, with StartRefused."""
    owner = asyncio.current_task()
    broken: list[BaseException] = []

    def ended(task: "asyncio.Task[Any]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and owner is not None:
            broken.append(error)
            owner.cancel()
            log.error("background.broke", error=repr(error))

    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    for task in tasks:
        task.add_done_callback(ended)
    try:
        yield
    except asyncio.CancelledError:
        if broken:
            raise StartRefused("a part of this process broke; see the log above. Nothing accepted is lost") from None
        raise
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _forget_revoked_keys(node: Node) -> None:
    with node.services.wakeups.subscribe(KEYS_TOPIC) as waiter:
        while True:
            if await waiter.wait(60):
                node.access.forget()


@asynccontextmanager
async def run_dispatcher(node: Node) -> AsyncIterator[Dispatcher]:
    """Dispatcher, sweeper, reconciler and the listener to Google, beside the body."""
    s = node.services
    dispatcher = Dispatcher(s, EFFECTS)
    loops = [dispatcher.run(), sweep_forever(s), listen_forever(s), reconcile_forever(s), _warm(s)]
    async with background(loops):
        yield dispatcher


async def _warm(s: Services) -> None:
    """Build the ways to Google now: reading keys and certificates takes a third of a second, which the first command
    after a start would wait for, with whoever wants to cancel it.
    """
    with suppress(StoreUnavailable):
        for enterprise in await s.store.directory.enterprises():
            await s.channels.channel(enterprise.organization_id, enterprise.id)


@asynccontextmanager
async def run_api(node: Node, listener: socket.socket, dispatcher: Dispatcher | None) -> AsyncIterator[None]:
    """The HTTP API and the agent gateway on a listening socket, beside the body."""
    health = Health(node.services, None if dispatcher is None else lambda: dispatcher.last_round_at)
    settings = node.settings
    rates = Rates(
        settings.requests_per_minute, settings.organization_requests_per_minute, settings.check_ins_per_minute
    )
    app = build_app(node.services, node.access, health, rates)
    proxies = settings.trusted_proxies
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        http=partial(HttpProtocol, limits=ConnectionLimits(most_connections(settings.max_connections))),  # type: ignore[arg-type]
        ws=LineProtocol,
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies or None,
        server_header=False,
        # Longer than clients keep idle connections (5 s is a common choice): a request must not meet our closing one.
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_SHUTDOWN_S,
    )
    server = _Server(config)
    async with _operators_door(node):
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        listening = asyncio.create_task(server.listening.wait())
        try:
            await asyncio.wait({serving, listening}, return_when=asyncio.FIRST_COMPLETED)
            async with background([_forget_revoked_keys(node)]):
                yield
        finally:
            node.services.end_waits()
            listening.cancel()
            server.should_exit = True
            await serving


@asynccontextmanager
async def _operators_door(node: Node) -> AsyncIterator[None]:
    folder = node.settings.data_dir
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(serve_operator(node.services, folder))
        except OSError as error:  # something else is in its place, say
            what = error.filename or folder
            raise StartRefused(f"the operator's socket cannot be made: {what}: {error.strerror}") from None
        yield


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the command line decides what a signal means."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def most_connections(wanted: int) -> int:
    """How many connections this process takes; the rest of its open files is for the store and services outside."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))  # the lower limit is for programs that use select()
    if files == resource.RLIM_INFINITY:
        return wanted
    room = files - min(_FILES_KEPT, files // 2)
    return min(wanted or room, room)


def collect_garbage_rarely() -> None:
    """For a process that serves until it ends: what was made at the start stays, and few of its objects form cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; raises StartRefused when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError, UnicodeError) as error:
        listener.close()
        raise StartRefused(f"cannot listen on {host}:{port}: {_why_not(error)}") from None
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


def _why_not(error: Exception) -> str:
    """Why an address cannot be had, and what to do."""
    if isinstance(error, socket.gaierror | UnicodeError):
        return "no such host. Choose another with --host"
    if not isinstance(error, OSError) or not error.errno:
        return str(error)
    option = "--host" if error.errno == errno.EADDRNOTAVAIL else "--port"
    return f"{os.strerror(error.errno)}. Choose another with {option}"


def base_url(listener: socket.socket) -> str:
    """The address under which a listening socket is reached."""
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"
