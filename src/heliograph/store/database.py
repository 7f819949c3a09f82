"""What the repositories need of a database: a few methods that SQLite and PostgreSQL both have.

Statements are written once, with `$1` parameters and CAST(); where the two must differ, a named fragment of the
`Dialect` stands in.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from heliograph.domain.errors import Conflict, HeliographError, InvalidInput
from heliograph.domain.record import record
from heliograph.store.prepared import Prepared

log = logging.getLogger(__name__)


class Row(Protocol):
    """A row as either driver gives it: values by position."""

    def __getitem__(self, index: int, /) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int: ...


Rows = Sequence[Row]


class MigrationRefused(HeliographError):
    """The database does not fit this version of the program"""

    code = "migration_refused"


class DataDirectoryInUse(HeliographError):
    """Another process works on this data directory"""

    code = "data_directory_in_use"

    def __init__(self, message: str = "", *, briefly: bool = False) -> None:
        super().__init__(message)
        self.briefly = briefly
        """Whether by a command, which is gone in a moment."""


@record
class Statement:
    """One statement with its arguments. `must`: it has to give rows (RETURNING), or nothing that is written with it
    counts.
    """

    sql: str
    args: tuple[Any, ...] = ()
    must: bool = False

    def kept(self, rows: Rows) -> Rows:
        """The rows that it gave. Raises Conflict where there must be some."""
        if self.must and not rows:
            raise Conflict
        return rows


def statement(sql: str, *args: Any, must: bool = False) -> Statement:
    """A statement with its arguments."""
    return Statement(sql, args, must)


@dataclass(frozen=True, eq=False)
class LookUp:
    """A SELECT that is asked all the time, for a few rows each time; `types` are those of its parameters.

    Those that are asked at the same moment may be answered by one statement.
    """

    sql: str
    types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dialect:
    """The fragments in which the two databases differ.

    `among(column, n)` says that a column is one of a list given as parameter n; `pack` makes that parameter.
    `among_found(column, select)` says that it is one of those that a SELECT gives.
    `skip_locked` belongs to a SELECT that picks rows to update.
    """

    name: str
    among: Callable[[str, int], str]
    among_found: Callable[[str, str], str]
    pack: Callable[[Sequence[str]], Any]
    skip_locked: str = ""


class Reader(Protocol):
    """Reads committed rows."""

    dialect: Dialect

    async def fetch(self, sql: str, *args: Any) -> Rows:
        """All rows of a SELECT."""
        ...

    async def look_up(self, what: LookUp, *args: Any) -> Rows:
        """All rows of a look-up."""
        ...


class Database(Reader, Protocol):
    """Reads and writes."""

    async def write(self, *statements: Statement, alone: str | None = None) -> list[Rows]:
        """Run statements in one transaction; their rows (RETURNING). Conflict where a constraint is violated, or one
        that must give rows gives none: then nothing is written.

        Of the transactions with the same name `alone`, one runs at a time.
        """
        ...

    async def commit(self, prepared: Prepared) -> None:
        """Write a prepared change set, see ports.store.UnitOfWork.commit."""
        ...


def not_migrated() -> MigrationRefused:
    """A table or column is missing."""
    return MigrationRefused("The database is not up to date: run `heliograph db migrate`")


def cannot_be_stored() -> InvalidInput:
    """A value that no column takes: a lone surrogate, a NUL character, a number beyond 64 bits."""
    return InvalidInput(message="A value holds something that cannot be stored, such as a NUL character")
