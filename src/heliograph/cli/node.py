"""A node in this process. Imports the whole server, so the rest of the command line imports this where it must."""

import difflib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from pydantic import SecretStr, ValidationError

from heliograph.bootstrap import StartRefused, open_node
from heliograph.cli.exits import ExitCode, Failure, usage
from heliograph.cli.target import OnDatabase
from heliograph.operator_socket import run_verb
from heliograph.settings import Settings
from heliograph.store import is_postgres
from heliograph.telemetry import configure_logging

Json = dict[str, Any]
PREFIX = "HELIOGRAPH_"
_NO_SETTINGS = ("URL", "API_KEY", "ORG", "LAB_URL", "AGENT_SECRET")  # other commands' variables
Ask = Callable[[str, str | None, Json], Awaitable[Json]]


def read_settings(**given: Any) -> Settings:
    """The settings of the environment, and on top of them what was given (None = was not). Raises Failure."""
    chosen = {name: value for name, value in given.items() if value is not None}
    if "database" in chosen:
        chosen["database"] = SecretStr(chosen["database"])
    try:
        settings = Settings(**chosen)
    except ValidationError as error:
        # Without the values: one may be a secret.
        faults = error.errors(include_input=False, include_url=False)
        said = "; ".join(
            f"{_spelled(str(f['loc'][0]), chosen)}: {f['msg'].removeprefix('Value error, ')}" for f in faults
        )
        raise usage(f"a setting is wrong: {said}") from None
    if settings.database is not None and not is_postgres(settings.database.get_secret_value()):
        raise usage("--database (HELIOGRAPH_DATABASE) must begin with postgresql://")
    return settings


def _spelled(name: str, chosen: Mapping[str, Any]) -> str:
    """A setting as the one who set it wrote it."""
    return f"--{name.replace('_', '-')}" if name in chosen else f"{PREFIX}{name.upper()}"


def unknown_variables() -> list[str]:
    """What to say of variables that look like settings and are none."""
    known = {*map(str.upper, Settings.model_fields), *_NO_SETTINGS}
    said = []
    for name in sorted(name.removeprefix(PREFIX) for name in os.environ if name.startswith(PREFIX)):
        if name not in known:
            meant = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {PREFIX}{meant[0]}?" if meant else ""
            said.append(f"{PREFIX}{name} is no setting and has no effect{hint}")
    return said


def start_logging(settings: Settings) -> None:
    """Log as the settings say, beginning with what is wrong about the environment."""
    configure_logging(settings.log_level, settings.log_format)
    for warning in unknown_variables():
        logging.getLogger("heliograph").warning(warning)


@asynccontextmanager
async def open_node_here(target: OnDatabase) -> AsyncIterator[Ask]:
    """The store, and what carries out verbs on it. Raises DataDirectoryInUse where another process holds it."""
    settings = read_settings(data_dir=target.data_dir, database=target.database)
    configure_logging("ERROR", settings.log_format)
    logging.getLogger().setLevel(logging.ERROR)  # what goes wrong on the way shows in how it ends
    async with AsyncExitStack() as stack:
        try:
            node = await stack.enter_async_context(open_node(settings, briefly=True))
        except StartRefused as refused:
            raise Failure(ExitCode.REFUSED, str(refused)) from None
        yield lambda verb, organization, body: run_verb(node.services, verb, organization, body)
