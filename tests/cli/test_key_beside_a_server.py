"""The secret key is not exchanged under a server that has it: on PostgreSQL no lock on a directory keeps them apart."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from heliograph import bootstrap
from heliograph.bootstrap import StartRefused, open_node
from heliograph.cli.node import read_settings
from heliograph.cli.rotate_key import rotate
from heliograph.domain.errors import Conflict, StoreUnavailable
from heliograph.settings import Settings
from heliograph.store import Hub, PostgresStore
from heliograph.store import postgres as postgres_store
from heliograph.store import serving as serving_store
from tests.cli.rig import outside, serving
from tests.support.demo import new_database


@pytest.mark.parametrize("verb", ["rotate-key", "forget-secrets"])
def test_it_is_refused_until_the_last_server_has_ended(
    verb: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    present, other = (base64.b64encode(letter * 32).decode() for letter in (b"p", b"o"))
    with new_database("postgres", request) as database:
        assert database is not None
        where = ["--data-dir", "data", "--database", database]
        env = {"HELIOGRAPH_SECRET_KEY": present}
        mine = env | {"HELIOGRAPH_NEW_SECRET_KEY": other}
        if verb == "forget-secrets":
            mine = {"HELIOGRAPH_SECRET_KEY": other}
        outside("org", "create", "acme", *where, folder=tmp_path, **env)
        with serving(tmp_path, "serve", "all", "--port", 0, *where, **env):
            outside("provider", "add", "pushy", "--set", "apiKey=abc", *where, folder=tmp_path, **env)
            refused = outside("db", verb, "--yes", *where, folder=tmp_path, **mine)
            assert (refused.code, "a server works on this database" in refused.err) == (6, True)
            assert "process " in refused.err
            assert outside("org", "list", *where, folder=tmp_path, **env).code == 0  # its key is the database's
        done = outside("db", verb, "--yes", *where, folder=tmp_path, **mine)
        assert (done.code, done.err.count("Traceback")) == (0, 0)
        assert outside("org", "list", *where, folder=tmp_path, HELIOGRAPH_SECRET_KEY=other).code == 0


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    with new_database("postgres", request) as made:
        assert made is not None
        yield made


async def test_a_server_that_is_about_to_read_the_key_counts_as_one(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would go on with the key of that moment."""
    other = await PostgresStore.open(database, Hub())
    read = bootstrap._key_of
    refused: list[str] = []

    async def read_late(store: PostgresStore, settings: Settings, given: bytes | None) -> bytes:
        with pytest.raises(Conflict) as caught:
            await replace_key(settings, other)
        refused.append(str(caught.value))
        return await read(store, settings, given)

    monkeypatch.setattr(bootstrap, "_key_of", read_late)
    async with open_node(read_settings(data_dir=tmp_path, database=database)):
        assert ["a server works on this database" in reason for reason in refused] == [True]
    await other.close()


async def replace_key(settings: Settings, store: PostgresStore) -> None:
    async with store.kept_alone():
        await rotate(settings, store)


async def test_a_server_does_not_start_while_the_key_is_replaced(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_store, "_LISTENING_S", 0.2)
    other = await PostgresStore.open(database, Hub())
    settings = read_settings(data_dir=tmp_path, database=database)
    async with other.kept_alone():
        with pytest.raises(StartRefused, match="is being replaced"):
            await open_and_close(settings)
    await open_and_close(settings)
    await other.close()


async def open_and_close(settings: Settings) -> None:
    async with open_node(settings):
        pass


class Way:
    """Between a command and its database. `frozen`: nothing gets through any more, and no end is told."""

    def __init__(self, database: str) -> None:
        self.parts = urlsplit(database)
        self.frozen = False
        self.writers: list[asyncio.StreamWriter] = []

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(self.parts.hostname, self.parts.port)
        self.writers += [writer, up_writer]
        await asyncio.gather(self._copy(reader, up_writer), self._copy(up_reader, writer), return_exceptions=True)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if not self.frozen:
                writer.write(data)
        if not self.frozen:
            writer.close()


async def test_a_database_that_goes_away_is_told_and_holds_up_nobody(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_store, "_CONNECT_TIMEOUT_S", 0.5)
    way = Way(database)
    server = await asyncio.start_server(way.carry, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = await PostgresStore.open(database.replace(f":{way.parts.port}/", f":{port}/"), Hub())
    with pytest.raises(FileNotFoundError, match="the body's own"):
        await freeze(way, store)
    with pytest.raises(StoreUnavailable):
        await freeze(way, store)
    for writer in way.writers:
        writer.close()
    server.close()
    await store.close()


async def freeze(way: Way, store: PostgresStore) -> None:
    async with asyncio.timeout(20), store.kept_alone():
        way.frozen = True
        raise FileNotFoundError("the body's own")
