"""Many rows as one parameter of a statement: a JSON array of objects, which PostgreSQL takes apart itself.

An array of a type for each column costs more on both sides: asyncpg looks at every element twice before it writes it.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode


class Shape:
    """The columns of such rows: names with their types."""

    def __init__(self, *columns: tuple[str, str]) -> None:
        self._named = ", ".join(f"{name} {kind}" for name, kind in columns)
        self._blobs = frozenset(n for n, (_, kind) in enumerate(columns) if kind == "bytea")
        # To make and to encode a dict takes several times as long.
        self._row = msgspec.defstruct("Row", [(name, Any) for name, _ in columns], gc=False)

    def rows_of(self, position: int, alias: str) -> str:
        """The FROM item whose rows are those of a parameter."""
        return f"json_to_recordset(${position}) AS {alias} ({self._named})"

    def packed(self, rows: Iterable[Sequence[Any]]) -> str:
        """The parameter. Raises UnicodeError for what no column takes."""
        if self._blobs:
            rows = [[_blob(value) if n in self._blobs else value for n, value in enumerate(row)] for row in rows]
        make = self._row
        return _encode([make(*row) for row in rows]).decode()


def _blob(value: bytes | None) -> str | None:
    return None if value is None else f"\\x{value.hex()}"
