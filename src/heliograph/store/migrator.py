"""Numbered plain-SQL migrations, the same files for both databases.

Lines between `--: postgres` (or `--: sqlite`) and `--: end` are for that database only. A statement ends with a
semicolon at the end of a line. A file that was applied somewhere is never edited: its checksum is kept. For PostgreSQL
a text column is made `COLLATE "C"` (0019).
"""

import hashlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import ClassVar, Protocol

from heliograph.store.database import MigrationRefused

_FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


@dataclass(frozen=True, slots=True)
class Applied:
    """A migration that the database remembers."""

    SELECT: ClassVar[str] = "SELECT number, name, checksum, applied_at FROM schema_migrations ORDER BY number"

    number: int
    name: str
    checksum: str
    applied_at: int


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration file."""

    TABLE: ClassVar[str] = (
        "CREATE TABLE IF NOT EXISTS schema_migrations (number INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL,"
        " checksum TEXT NOT NULL, applied_at BIGINT NOT NULL)"
    )

    number: int
    name: str
    text: str = field(repr=False)

    @property
    def checksum(self) -> str:
        """The fingerprint of the whole file."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def statements(self, dialect: str) -> list[str]:
        """The statements for one database."""
        lines: list[str] = []
        audience = dialect
        for line in self.text.splitlines():
            if line.startswith("--:"):
                word = line.removeprefix("--:").strip()
                audience = dialect if word == "end" else word
            elif audience == dialect and not line.lstrip().startswith("--"):
                lines.append(line)
        return [text.strip() for text in re.split(r";\s*\n", "\n".join(lines) + "\n") if text.strip()]


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """One line of `heliograph db status`; `applied_at` None = to be applied."""

    number: int
    name: str
    applied_at: int | None


class Migratable(Protocol):
    """A store whose database can be migrated."""

    async def applied_migrations(self) -> list[Applied]:
        """What the database remembers, in order."""
        ...

    async def apply_migrations(self, known: Sequence[Migration], now: Callable[[], int]) -> list[Migration]:
        """Apply what is pending, under a lock that holds other processes off; all of it or nothing."""
        ...


def known_migrations() -> list[Migration]:
    """The migrations of this version of the program, in order."""
    found = []
    for file in (resources.files("heliograph.store") / "migrations").iterdir():
        match = _FILE.fullmatch(file.name)
        if match:
            found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    return sorted(found, key=lambda migration: migration.number)


def pending(known: Sequence[Migration], applied: Sequence[Applied]) -> list[Migration]:
    """What is to be applied. Raises MigrationRefused when the database does not fit this program."""
    by_number = {migration.number: migration for migration in known}
    for past in applied:
        migration = by_number.get(past.number)
        if migration is None:
            raise MigrationRefused(
                f"The database is newer than this program: it has migration {past.number} ({past.name}),"
                f" this program ends at {max(by_number, default=0)}. Start the newer version."
            )
        if migration.checksum != past.checksum:
            raise MigrationRefused(
                f"Migration {past.number} ({past.name}) was changed after it had been applied to this database."
                " Restore the file, and put the change into a migration of its own."
            )
    done = {past.number for past in applied}
    last = max(done, default=0)
    todo = [migration for migration in known if migration.number not in done]
    if todo and todo[0].number < last:
        raise MigrationRefused(
            f"Migration {todo[0].number} ({todo[0].name}) is missing below {last}, which is applied."
        )
    return todo


async def migrate(store: Migratable, known: Sequence[Migration] | None = None) -> list[Migration]:
    """Bring the database up to date; answers what was applied just now."""
    return await store.apply_migrations(known_migrations() if known is None else known, _now)


async def status(store: Migratable, known: Sequence[Migration] | None = None) -> list[MigrationStatus]:
    """Each migration and when it was applied. Raises MigrationRefused as `migrate` would."""
    known = known_migrations() if known is None else known
    applied = await store.applied_migrations()
    pending(known, applied)
    when = {past.number: past.applied_at for past in applied}
    return [MigrationStatus(m.number, m.name, when.get(m.number)) for m in known]


def _now() -> int:
    return time.time_ns() // 1000
