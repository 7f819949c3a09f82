"""Many rows as one parameter of a statement: a JSON array of objects, which PostgreSQL takes apart itself.

An array of a type for each column costs more on both sides: asyncpg looks at every element twice before it writes it.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

Columns = Sequence[tuple[str, str]]

_encode = msgspec.json.Encoder().encode


def rows_from(position: int, alias: str, columns: Columns) -> str:
    """The FROM item whose rows are those of parameter `position`; `columns` are names with their types."""
    named = ", ".join(f"{name} {kind}" for name, kind in columns)
    return f"json_to_recordset(${position}) AS {alias} ({named})"


def packed(columns: Columns, rows: Iterable[Sequence[Any]]) -> str:
    """The parameter. Raises UnicodeError or OverflowError for what no column takes."""
    names = [name for name, _ in columns]
    objects = [dict(zip(names, row, strict=True)) for row in rows]
    for name in (name for name, kind in columns if kind == "bytea"):
        for item in objects:
            if item[name] is not None:
                item[name] = f"\\x{item[name].hex()}"
    return _encode(objects).decode()
