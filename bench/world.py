"""What is measured on: a fresh database with one organization, a key and devices, made by the server's own verbs."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from pydantic import SecretStr

from bench.processes import PostgresMeter
from heliograph.app import setup
from heliograph.app.agent_line import register_agent
from heliograph.app.services import Services
from heliograph.bootstrap import open_node
from heliograph.domain.devices import COMMAND_APP, Device, Organization
from heliograph.settings import Settings
from heliograph.telemetry import configure_logging
from heliograph_protocol.messages import Register, Target

ENTERPRISE = "enterprises/LCbench"
_AT_A_TIME = 64
SHOWN_SETTINGS = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size")


@dataclass(frozen=True, slots=True)
class World:
    """A database with what a benchmark needs in it. `database` None = SQLite in the data directory."""

    data_dir: Path
    database: str | None
    organization: Organization
    key: str = field(repr=False)
    devices: list[Device]
    agent_secrets: list[str] = field(repr=False)


async def build(data_dir: Path, database: str | None, platform: str, devices: int) -> World:
    """Make the organization and its devices; AOSP devices have an agent that our own line reaches."""
    configure_logging("ERROR", "text")
    settings = Settings(data_dir=data_dir, database=None if database is None else SecretStr(database))
    async with open_node(settings) as node:
        s = node.services
        organization = await setup.create_organization(s, f"bench-{secrets.token_hex(4)}")
        _, key = await setup.create_key(s, organization, "bench", ["*"])
        if platform == "android":
            await setup.add_enterprise(s, organization, ENTERPRISE, {})
        made: list[tuple[Device, str]] = []
        for some in _slices(range(devices), _AT_A_TIME):
            made += await asyncio.gather(*(_device(s, organization, platform, number) for number in some))
    return World(data_dir, database, organization, key, [d for d, _ in made], [secret for _, secret in made])


async def _device(s: Services, organization: Organization, platform: str, number: int) -> tuple[Device, str]:
    description: dict[str, Any] = {"platform": platform, "serialNumber": f"BENCH{number}"}
    if platform == "android":
        description["externalName"] = f"{ENTERPRISE}/devices/{number:x}"
    device, secret = await setup.add_device(s, organization, description)
    if platform == "aosp":
        await register_agent(
            s, device, Register(app=COMMAND_APP, agent_version="1", targets=[Target(provider="builtin")])
        )
    return device, secret


def _slices(items: range, size: int) -> Iterable[range]:
    return (items[at : at + size] for at in range(0, len(items), size))


class Postgres:
    """The PostgreSQL that we were given."""

    def __init__(self, url: str) -> None:
        self.url = url

    def dsn(self, database: str) -> str:
        """The URL of another database of it."""
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{database}"))

    @contextlib.asynccontextmanager
    async def database(self, template: str | None = None) -> AsyncIterator[str]:
        """A fresh database (or a copy of one), dropped at the end."""
        name = f"bench_{secrets.token_hex(6)}"
        copy = f' TEMPLATE "{urlsplit(template).path[1:]}"' if template else ""
        await self.execute(f'CREATE DATABASE "{name}"{copy}')
        try:
            yield self.dsn(name)
        finally:
            await self.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    async def execute(self, statement: str, dsn: str | None = None) -> list[Any]:
        """Run one statement on a connection of its own."""
        connection = await asyncpg.connect(dsn or self.url)
        try:
            return list(await connection.fetch(statement))
        finally:
            await connection.close()

    async def settings(self) -> dict[str, str]:
        """The settings that decide what a commit costs."""
        return {name: (await self.execute(f"SHOW {name}"))[0][0] for name in SHOWN_SETTINGS}

    async def meter(self) -> PostgresMeter:
        """A meter of the CPU time that it uses from now on."""
        connection = await asyncpg.connect(self.url)
        try:
            return PostgresMeter(await connection.fetchval("SELECT pg_backend_pid()"))
        finally:
            await connection.close()
