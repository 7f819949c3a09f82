"""`heliograph db`: the database."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliograph.cli.exits import ExitCode, Failure
from heliograph.cli.options import Database, DataDir, Json, Yes, noun, spread
from heliograph.cli.output import ago, confirm, emit, note, rfc3339, say, table

if TYPE_CHECKING:
    from heliograph.domain.devices import Enterprise, Organization, ProviderAccount
    from heliograph.settings import Settings
    from heliograph.store import AnyStore, MigrationStatus
    from heliograph.store.migrator import Applied, Migration

_FORGOTTEN = "its settings were lost with the secret key: set them again with provider update"
app = noun("The database: migrations, and its secret key.")


@dataclass(frozen=True, slots=True)
class Place:
    """Which database."""

    data_dir: DataDir = None
    database: Database = None
    as_json: Json = False


@app.command()
@spread
def migrate(where: Place) -> None:
    """Bring the database up to date. The server does so itself when it starts."""
    settings = _settings(where)

    async def work() -> list[dict[str, Any]]:
        from heliograph.store import migrate as bring_up_to_date

        async with _opened(settings) as store:
            return [{"number": m.number, "name": m.name} for m in await bring_up_to_date(store)]

    emit({"applied": asyncio.run(work())}, _show_applied)


@app.command()
@spread
def status(where: Place) -> None:
    """Which migrations were applied and which are to be. May be asked while the server runs."""
    settings = _settings(where)
    lines = asyncio.run(migration_status(settings))
    items = [{"number": line.number, "name": line.name, "appliedAt": rfc3339(line.applied_at)} for line in lines]
    pending = sum(line.applied_at is None for line in lines)
    kind = "sqlite" if settings.database is None else "postgresql"
    emit({"database": kind, "pending": pending, "migrations": items}, _show_status)


@app.command("forget-secrets")
@spread
def forget_secrets(where: Place, yes: Yes = False) -> None:
    """After the secret key is lost: erase what was encrypted with it, so that the server starts with a new key.

    Credentials of push providers and Google enterprises go, and so do passwords and activation codes in commands that
    were not sent yet; those commands fail. Devices, history and API keys stay.
    """
    settings = _settings(where)
    confirm("This erases all stored provider and enterprise credentials for good.", yes)
    emit(asyncio.run(_forget(settings)), _show_forgotten)


@app.command("rotate-key")
@spread
def rotate_key(where: Place, yes: Yes = False) -> None:
    """Seal every stored secret with a new key, in one step. The server must not run, on any machine.

    The new key takes the place of secret.key. Whoever keeps the key in HELIOGRAPH_SECRET_KEY gives the new one in
    HELIOGRAPH_NEW_SECRET_KEY. What was interrupted is finished by the next try, or by the next start.
    """
    settings = _settings(where)
    confirm("No server may run on this database, on any machine; copies of the old key open nothing new.", yes)
    emit(asyncio.run(_rotate(settings)), _show_rotated)


def _settings(where: Place) -> "Settings":
    from heliograph.cli.node import read_settings

    return read_settings(data_dir=where.data_dir, database=where.database)


@asynccontextmanager
async def _opened(settings: "Settings") -> AsyncIterator["AnyStore"]:
    from heliograph.store import Hub, open_store

    dsn = settings.database
    store = await open_store(settings.data_dir if dsn is None else dsn.get_secret_value(), Hub())
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def _alone(settings: "Settings") -> AsyncIterator["AnyStore"]:
    """The same, up to date, where no server works on it: one would go on with the key that it has. Raises Conflict."""
    from heliograph.store import migrate as bring_up_to_date

    async with _opened(settings) as store, store.kept_alone():
        await bring_up_to_date(store)
        yield store


async def migration_status(settings: "Settings") -> "list[MigrationStatus]":
    """What was applied and what is to be; may be asked while the server runs."""
    from heliograph.store import status as status_of

    if settings.database is None:
        return await status_of(_Onlooker(settings.data_dir / "heliograph.db"))
    async with _opened(settings) as store:
        return await status_of(store)


class _Onlooker:
    """Reads what an SQLite database remembers of its migrations, beside the server that holds it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def applied_migrations(self) -> "list[Applied]":
        """What the database remembers, in order."""
        from heliograph.store.migrator import Applied

        if not self._path.exists():
            raise Failure(
                ExitCode.NOT_FOUND, f"there is no database in {self._path.parent}: heliograph db migrate makes one"
            )
        try:
            connection = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)
            with closing(connection):
                return [Applied(*row) for row in connection.execute(Applied.SELECT)]
        except sqlite3.DatabaseError as error:
            if "no such table" in str(error):
                return []
            said = "is not an SQLite database" if "not a database" in str(error) else f"cannot be read: {error}"
            raise Failure(ExitCode.UNREACHABLE, f"{self._path} {said}") from None

    async def apply_migrations(self, *_: object) -> "list[Migration]":
        """Never: an onlooker changes nothing."""
        raise Failure(ExitCode.REFUSED, "nothing is migrated beside a server that runs")


async def _forget(settings: "Settings") -> dict[str, Any]:
    from heliograph.system import KEY_FILE, fingerprint_of, load_secret_key, make_secret_key

    text = settings.secret_key.get_secret_value() if settings.secret_key else None
    path = settings.data_dir / KEY_FILE
    try:
        given = load_secret_key(text, path)
    except (ValueError, OSError) as error:
        raise Failure(ExitCode.USAGE, str(error)) from None
    async with _alone(settings) as store:
        mine = fingerprint_of(make_secret_key(path) if given is None else given).hex()
        if await store.fingerprint(mine) == mine:
            raise Failure(ExitCode.REFUSED, "the secret key is the one that belongs to this database: nothing is lost")
        lost = await _erase(store)
        await store.replace_fingerprint(mine)
    return {"forgotten": lost}


async def _erase(store: "AnyStore") -> list[dict[str, Any]]:
    """Erase what can no longer be opened; answers what has to be entered again."""
    lost: list[dict[str, Any]] = []
    for organization in await store.directory.organizations():
        setup = store.unit_of_work(organization.id).setup
        for enterprise in await setup.enterprises():
            if enterprise.credentials is not None:
                await setup.save_enterprise(replace(enterprise, credentials=None), ["credentials"])
                lost.append(_lost(organization, "enterprise", enterprise))
        for account in await setup.accounts():
            await setup.note_fault(account.id, _FORGOTTEN, time.time_ns() // 1000)
            lost.append(_lost(organization, account.provider, account))
    return lost


def _lost(organization: "Organization", kind: str, what: "Enterprise | ProviderAccount") -> dict[str, Any]:
    return {"organization": organization.slug, "kind": kind, "name": what.name, "id": what.id}


async def _rotate(settings: "Settings") -> dict[str, Any]:
    from heliograph.cli.rotate_key import rotate

    async with _alone(settings) as store:
        return await rotate(settings, store)


def _show_rotated(answer: dict[str, Any]) -> None:
    say(f"Sealed again with the new key: {answer['sealedAgain']}.")
    if answer["unreadable"]:
        note(f"{answer['unreadable']} could not be opened before either, and stay as they are")
    note(
        f"Back up {answer['keyFile']} now: older backups of the database need the old key."
        if answer["keyFile"]
        else "Start the server with the new key in HELIOGRAPH_SECRET_KEY."
    )


def _show_applied(answer: dict[str, Any]) -> None:
    columns = ("NUMBER", "APPLIED NOW")
    table(columns, [(m["number"], m["name"]) for m in answer["applied"]], "The database is up to date.")


def _show_status(answer: dict[str, Any]) -> None:
    rows = [(m["number"], m["name"], ago(m["appliedAt"]) or "to be applied") for m in answer["migrations"]]
    table(("NUMBER", "NAME", "APPLIED"), rows, "This program has no migrations.")
    note(f"{answer['pending']} to be applied: heliograph db migrate" if answer["pending"] else "Up to date.")


def _show_forgotten(answer: dict[str, Any]) -> None:
    say("The database belongs to the present secret key now.")
    rows = [(lost["organization"], lost["kind"], lost["name"], lost["id"]) for lost in answer["forgotten"]]
    table(("ORGANIZATION", "ENTER AGAIN", "NAME", "ID"), rows, "No credentials were stored.")
    if rows:
        note("heliograph enterprise add NAME --credentials FILE, heliograph provider update ID --set NAME=@FILE …")
