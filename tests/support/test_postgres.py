"""The test server itself: fresh databases, and nothing left behind even by SIGKILL."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
import psutil

from tests.arch.files import ROOT
from tests.support.postgres import DATABASE_VARIABLE, Postgres, remove_leftovers

PROGRAM = [sys.executable, "-m", "tests.support.postgres", "--run"]
WITHOUT_SERVER = {name: value for name, value in os.environ.items() if name != DATABASE_VARIABLE}


async def query(dsn: str, statement: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def prepare(dsn: str) -> None:
    await query(dsn, "CREATE TABLE seen (who text)")


async def test_databases_are_prepared_and_separate(postgres: Postgres) -> None:
    databases = postgres.template("separate", prepare)
    first, second = await asyncio.gather(databases(), databases())
    await query(first, "INSERT INTO seen VALUES ('first')")
    assert await query(first, "SELECT count(*) FROM seen") == 1
    assert await query(second, "SELECT count(*) FROM seen") == 0
    await databases.drop(first)
    await databases.drop(second)


def test_program_passes_the_server_and_the_exit_code_on() -> None:
    script = f"import os, sys; sys.exit(7 if os.environ['{DATABASE_VARIABLE}'].startswith('postgresql://') else 1)"
    done = subprocess.run([*PROGRAM, sys.executable, "-c", script], cwd=ROOT, env=WITHOUT_SERVER, check=False)
    assert done.returncode == 7


def test_server_ends_with_a_killed_owner(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = f"import pathlib, time; pathlib.Path({str(ready)!r}).touch(); time.sleep(60)"
    owner = subprocess.Popen([*PROGRAM, sys.executable, "-c", script], cwd=ROOT, env=WITHOUT_SERVER)
    wait_until(ready.exists)
    children = psutil.Process(owner.pid).children(recursive=True)
    assert any(child.name() == "postgres" for child in children)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
    remove_leftovers()


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_ctrl_c_ends_it_without_a_complaint() -> None:
    command = [*PROGRAM, "sh", "-c", "echo on; exec sleep 60"]
    with subprocess.Popen(
        command, cwd=ROOT, env=WITHOUT_SERVER, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"on\n"
        os.killpg(running.pid, signal.SIGINT)
        _, complaints = running.communicate(timeout=60)
    assert (running.returncode, complaints) == (130, b"")
