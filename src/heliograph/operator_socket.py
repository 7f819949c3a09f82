"""The operator's door: a Unix socket in the data directory (mode 0600) that takes set-up verbs while the server runs.

Whoever may open the directory could open the database itself; the socket only spares them stopping the server.
One request and one answer a connection, each a line of JSON.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import structlog

from heliograph.app.callers import Caller
from heliograph.app.services import Services
from heliograph.app.setup import find_organization
from heliograph.app.verbs import VERBS, call_verb
from heliograph.domain.devices import Organization
from heliograph.domain.errors import HeliographError, InvalidInput, NotFound
from heliograph.domain.fields import Fields

NAME = "operator.sock"
LOCK = "operator.lock"
_MAX_LINE = 4 * 1024 * 1024
_MAX_ANSWER = 1024 * 1024 * 1024  # all devices of a fleet, say; it comes from our own server
log = structlog.get_logger("heliograph.operator")
NOBODY = Organization("", "", "", {}, 0, 0)


async def run_verb(s: Services, name: str, organization: str | None, body: dict[str, Any]) -> dict[str, Any]:
    """Carry out a verb as the operator: all rights, any organization."""
    verb = VERBS.get(name)
    if verb is None:
        raise NotFound(f"there is no verb {name!r}")
    if not verb.organization_bound:
        return await call_verb(s, verb, Caller(NOBODY), body)
    if organization is None:
        raise InvalidInput.of("organization", "is required: --org ID-or-SLUG")
    return await call_verb(s, verb, Caller(await find_organization(s, organization)), body)


@contextmanager
def _address(data_dir: Path) -> Iterator[str]:
    """A path short enough for a socket address, however deep the data directory lies."""
    handle = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}/{NAME}"
    finally:
        os.close(handle)


@asynccontextmanager
async def serve_operator(s: Services, data_dir: Path) -> AsyncIterator[None]:
    """Listen on the operator's socket beside the body, unless another process does so for this directory already.

    On SQLite there is no other; of several on one PostgreSQL the first answers for all, since they share everything.
    """
    with (data_dir / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("operator.elsewhere", directory=str(data_dir))
            yield
            return
        server = await _listen(s, data_dir)
        try:
            yield
        finally:
            server.close()
            (data_dir / NAME).unlink(missing_ok=True)


async def _listen(s: Services, data_dir: Path) -> asyncio.Server:

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(msgspec.json.encode(await _answer(s, await reader.readline())) + b"\n")
            await writer.drain()
        except (OSError, ValueError):
            pass  # the other side hung up, or sent a line without end
        finally:
            writer.close()

    (data_dir / NAME).unlink(missing_ok=True)
    before = os.umask(0o177)
    try:
        with _address(data_dir) as address:
            return await asyncio.start_unix_server(handle, address, limit=_MAX_LINE)
    finally:
        os.umask(before)


async def _answer(s: Services, line: bytes) -> dict[str, Any]:
    try:
        request = Fields(msgspec.json.decode(line, type=dict))
        name, organization = request.text("verb", required=True), request.text("organization")
        body = request.json_object("body") or {}
        request.raise_if_wrong()
        return {"ok": await run_verb(s, name or "", organization, body)}
    except HeliographError as error:
        return {"error": str(error), "code": error.code}
    except (msgspec.DecodeError, msgspec.ValidationError):
        return {"error": "not a request", "code": "invalid_input"}


async def ask_operator(data_dir: Path, verb: str, organization: str | None, body: dict[str, Any]) -> dict[str, Any]:
    """Send a verb to the server that runs on a data directory. ConnectionError / FileNotFoundError: none does."""
    with _address(data_dir) as address:
        reader, writer = await asyncio.open_unix_connection(address, limit=_MAX_ANSWER)
    try:
        writer.write(msgspec.json.encode({"verb": verb, "organization": organization, "body": body}) + b"\n")
        await writer.drain()
        answer: dict[str, Any] = msgspec.json.decode(await reader.readline(), type=dict)
    finally:
        writer.close()
    if "error" in answer:
        known = {kind.code: kind for kind in _kinds_below(HeliographError)}
        raise known.get(answer["code"], HeliographError)(message=answer["error"])
    result: dict[str, Any] = answer["ok"]
    return result


def _kinds_below(kind: type[HeliographError]) -> Iterator[type[HeliographError]]:
    for below in kind.__subclasses__():
        yield below
        yield from _kinds_below(below)
