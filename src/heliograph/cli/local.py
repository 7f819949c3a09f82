"""Working on a database: through the server that runs on it where one does, else with a node in this process."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from heliograph.cli.exits import ExitCode, Failure
from heliograph.cli.output import note, remark_waiting
from heliograph.cli.starting import LONGEST_S
from heliograph.cli.target import DATABASE_FILE, OnDatabase
from heliograph.domain.errors import HeliographError
from heliograph.operator_socket import ask_operator

Json = dict[str, Any]
Ask = Callable[[str, str | None, Json], Awaitable[Json]]

_LOOK_AGAIN_S = 0.1
_ANSWER_S = 120.0
_SIGN_OF_LIFE_S = 20.0


@asynccontextmanager
async def open_database(target: OnDatabase, *, may_found: bool) -> AsyncIterator[Ask]:
    """Something that carries out verbs on a database; `may_found`: where there is none, on a new one.

    A server holds its directory for a while before it listens, and after it has stopped to. It is waited for until it
    listens or is gone: only a process that lives can hold the directory.
    """
    deadline = asyncio.get_running_loop().time() + LONGEST_S
    ask: Ask | None = None
    begins = told = False
    async with AsyncExitStack() as stack:
        while ask is None:
            if target.database is None and await is_served(target.data_dir):
                yield _asking(target.data_dir)
                return
            begins = not _is_there(target, may_found=may_found)
            # Imported only now: it is the whole server.
            from heliograph.cli.node import open_node_here

            try:
                ask = await stack.enter_async_context(open_node_here(target))
            except HeliographError as error:
                if error.code != "data_directory_in_use" or asyncio.get_running_loop().time() > deadline:
                    raise
                if not told:
                    told = True
                    remark_waiting(f"Waiting until the server on {target.data_dir} listens, or is gone …")
                await asyncio.sleep(_LOOK_AGAIN_S)
        if begins:
            note(f"There was no database in {target.data_dir}: this begins a new one.")
        yield ask


def _is_there(target: OnDatabase, *, may_found: bool) -> bool:
    """A slip in a path must not make a new installation that then looks empty. Raises Failure."""
    if target.database is not None or (target.data_dir / DATABASE_FILE).exists():
        return True
    if not may_found:
        raise Failure(
            ExitCode.NOT_FOUND,
            f"there is no database in {target.data_dir}: is the directory right? "
            "heliograph org create SLUG begins a new one",
        )
    return False


async def is_served(data_dir: Path) -> bool:
    """Whether a server runs on a data directory and listens to its operator. Raises Failure where one hangs."""
    try:
        async with asyncio.timeout(_SIGN_OF_LIFE_S):
            await ask_operator(data_dir, "organization.list", None, {})
    except HeliographError:
        return True  # it answers, if only to say what is wrong
    except TimeoutError:
        raise Failure(
            ExitCode.UNREACHABLE,
            f"the server on {data_dir} has not answered for {_SIGN_OF_LIFE_S:.0f} s: look at its log, or end it and "
            "start it again. What it has accepted is kept",
        ) from None
    except (OSError, msgspec.DecodeError, ValueError):
        return False
    return True


def _asking(data_dir: Path) -> Ask:
    async def ask(verb: str, organization: str | None, body: Json) -> Json:
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await ask_operator(data_dir, verb, organization, body)
        except TimeoutError:
            raise Failure(
                ExitCode.UNREACHABLE,
                f"the server on this data directory has not answered for {_ANSWER_S:.0f} s, and may still be at it: "
                "look whether it was carried out",
            ) from None
        except (OSError, msgspec.DecodeError, ValueError):
            raise Failure(
                ExitCode.UNREACHABLE,
                "the server on this data directory went away before it answered: look whether it was carried out",
            ) from None

    return ask
