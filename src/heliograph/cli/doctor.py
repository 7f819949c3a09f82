"""`heliograph doctor`: tests every step of an installation, names the one that fails, and says what to do."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NoReturn

import typer

from heliograph.cli.exits import ExitCode, Failure, of_error
from heliograph.cli.local import Ask, is_served, open_database
from heliograph.cli.options import Database, DataDir, Json, Org, spread
from heliograph.cli.output import ago, busy, emit, moment, say
from heliograph.cli.steps import show_steps
from heliograph.cli.target import DATABASE_FILE, OnDatabase, place_of_database
from heliograph.domain.errors import HeliographError, StoreUnavailable

_HEARD_S = 30.0
_LOOK_AGAIN_S = 0.25
_SOON = timedelta(days=30)
Found = dict[str, Any]


class _Failed(Exception):
    """A step failed, and those behind it cannot be tested."""


@spread
def doctor(
    *,
    data_dir: DataDir = None,
    database: Database = None,
    org: Org = None,
    enterprise: Annotated[str | None, typer.Option(help="Only this one, by id or name.")] = None,
    send_test: Annotated[
        bool, typer.Option("--send-test", help="Also send a test notification, and wait until the server has heard it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Test every step: files, database, secret key, clock, Google. Exit code 1 when one fails.

    Of push accounts it says what is known; `heliograph provider test` asks their providers. Runs beside the server or
    without it, on the server's machine. Nothing is changed.
    """
    del as_json
    target = OnDatabase(*place_of_database(data_dir, database, org))
    examined = _Examination(target, enterprise, send_test=send_test)
    with busy("Testing"):
        asyncio.run(examined.run())
    failed = [item["step"] for item in examined.items if item["state"] == "failed"]
    emit({"healthy": not failed, "checks": examined.items}, lambda _: examined.show())
    if failed:
        raise Failure(ExitCode.REFUSED, f"{len(failed)} failed: {', '.join(dict.fromkeys(failed))}")


def _advice(error: Failure | HeliographError, *, on_sqlite: bool) -> str:
    """What to do about a database that does not tell its migrations."""
    failure = error if isinstance(error, Failure) else of_error(error)
    if failure.exit_code is not ExitCode.UNREACHABLE:
        return "the reason says what to do"
    if on_sqlite:
        return "is this the server's directory (--data-dir)? How to put a backup back: the operators' page (Backup)"
    if str(error) != str(StoreUnavailable()) and "cannot be reached" not in str(error):
        return "the reason says what to do"
    return "is it up, and is this its address (HELIOGRAPH_DATABASE)?"


class _Examination:
    """All checks, in order. `items` are steps as verbs answer them, with the enterprise that they are about."""

    def __init__(self, target: OnDatabase, enterprise: str | None, *, send_test: bool) -> None:
        self._target, self._enterprise, self._send_test = target, enterprise, send_test
        self._served = False
        self.items: list[Found] = []

    async def run(self) -> None:
        try:
            await self._files()
            await self._migrations()
            async with self._opened() as ask:
                await self._organizations(ask)
        except _Failed:
            return

    def show(self) -> None:
        """For people: what concerns the installation, then each enterprise."""
        subjects = dict.fromkeys((item["organization"], item["enterprise"]) for item in self.items)
        for organization, enterprise in subjects:
            if enterprise is not None:
                say(f"{enterprise} of {organization}", "bold")
            show_steps([i for i in self.items if (i["organization"], i["enterprise"]) == (organization, enterprise)])

    def _note(self, step: str, state: str, detail: str, advice: str = "") -> None:
        about = {"organization": None, "enterprise": None}
        self.items.append({"step": step, "state": state, "detail": detail, "advice": advice, **about})

    def _fail(self, step: str, detail: str, advice: str) -> NoReturn:
        self._note(step, "failed", detail, advice)
        raise _Failed

    async def _files(self) -> None:
        folder = self._target.data_dir
        if not folder.is_dir():
            self._fail("data directory", f"{folder} is not there", "name the server's: --data-dir DIR")
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            self._fail("data directory", f"{folder} cannot be used by you", "run this as the user that runs the server")
        try:
            self._served = self._target.database is None and await is_served(folder)
        except Failure as failure:
            self._fail("server", str(failure), "the reason says what to do")
        if folder.stat().st_mode & 0o077:
            advice = f"chmod 700 {folder}"
            self._note("data directory", "warning", f"{folder} can be read by other users", advice)
        else:
            self._note("data directory", "ok", f"{folder}{', a server runs on it' if self._served else ''}")

    async def _migrations(self) -> None:
        from heliograph.cli.db import migration_status
        from heliograph.cli.node import read_settings

        settings = read_settings(data_dir=self._target.data_dir, database=self._target.database)
        if settings.database is None and not (self._target.data_dir / DATABASE_FILE).exists():
            self._fail("database", "there is none", "heliograph org create SLUG --data-dir DIR begins one")
        try:
            lines = await migration_status(settings)
        except (Failure, HeliographError) as error:
            self._fail("database", str(error), _advice(error, on_sqlite=settings.database is None))
        pending = sum(line.applied_at is None for line in lines)
        if pending:
            self._fail(
                "database", f"{pending} migrations are to be applied", "heliograph db migrate, or start the server"
            )
        kind = "SQLite" if settings.database is None else "PostgreSQL"
        self._note("database", "ok", f"{kind}, {len(lines)} migrations applied")

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Ask]:
        async with AsyncExitStack() as stack:
            try:
                ask = await stack.enter_async_context(open_database(self._target, may_found=False))
            except (Failure, HeliographError) as error:
                self._fail(
                    "secret key",
                    str(error),
                    "the reason says what to do; the operators' page has more (The secret key)",
                )
            self._note("secret key", "ok", "opens this database's secrets")
            yield ask

    async def _organizations(self, ask: Ask) -> None:
        try:
            known = [str(o["slug"]) for o in (await ask("organization.list", None, {}))["items"]]
        except (Failure, HeliographError) as error:
            self._fail("organizations", str(error), "the reason says what to do")
        if self._target.organization is not None:
            known = [self._target.organization]
        if not known:
            self._note("organizations", "warning", "there is none", "heliograph org create SLUG")
        for organization in known:
            await self._google(ask, organization)
            await self._push_accounts(ask, organization)
        if not any(item["enterprise"] for item in self.items):
            advice = "for Android devices: heliograph enterprise connect"
            self._note("enterprises", "ok", f"none is connected ({advice})")

    async def _push_accounts(self, ask: Ask, organization: str) -> None:
        """What is known of them; none is asked, which `heliograph provider test` does."""
        for account in (await ask("provider.list", organization, {}))["items"]:
            what = f"{account['provider']} {account['name']}".strip() + f" of {organization}"
            renew = f"heliograph provider test {account['id']}, then heliograph provider update {account['id']} --set …"
            ends = moment(account["expiresAt"])
            if account["disabled"]:
                self._note("push account", "ok", f"{what} is disabled")
            elif account["fault"] is not None:
                self._note("push account", "failed", f"{what}: {account['fault']}", renew)
            elif ends is not None and ends - datetime.now(UTC) < _SOON:
                soon = ago(account["expiresAt"])
                self._note("push account", "warning", f"{what}: its credentials end {soon}", renew)
            else:
                self._note("push account", "ok", f"{what}: no fault is known")

    async def _google(self, ask: Ask, organization: str) -> None:
        body: Found = {} if self._enterprise is None else {"enterprise": self._enterprise}
        try:
            answer = await ask("enterprise.check", organization, {**body, "sendTest": self._send_test})
        except HeliographError as error:
            if self._enterprise is not None and error.code == "not_found" and self._target.organization is None:
                return  # of another organization
            raise
        for item in answer["items"]:
            about = {"organization": organization, "enterprise": item["enterprise"]["name"]}
            self.items += [{**step, **about} for step in item["steps"]]
            if item["steps"][-1]["step"] == "test notification":
                self.items.append({**await self._heard(ask, organization, item["enterprise"]), **about})

    async def _heard(self, ask: Ask, organization: str, before: Found) -> Found:
        """Whether the server hears the test that was sent."""
        if not self._served and self._target.database is None:
            advice = "start it (heliograph up); it hears the test then"
            return {"step": "hearing", "state": "warning", "detail": "no server is running", "advice": advice}
        deadline = asyncio.get_running_loop().time() + _HEARD_S
        while asyncio.get_running_loop().time() < deadline:
            listed = (await ask("enterprise.list", organization, {}))["items"]
            now = next(e["heardAt"] for e in listed if e["id"] == before["id"])
            if now is not None and now != before["heardAt"]:
                return {"step": "hearing", "state": "ok", "detail": f"the server heard it at {now}", "advice": ""}
            await asyncio.sleep(_LOOK_AGAIN_S)
        advice = "is a dispatcher running (serve dispatcher, serve all or up), with the same HELIOGRAPH_PUBSUB_URL?"
        return {"step": "hearing", "state": "failed", "detail": f"not heard in {_HEARD_S:.0f} s", "advice": advice}
