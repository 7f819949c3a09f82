"""Statements that follow from a table's specification."""

# ruff: noqa: S608 - made of the names of our own tables and columns

from functools import cache
from typing import Any

from heliograph.store.records import Table


@cache
def insert_of(table: Table[Any], *more: str) -> str:
    """The INSERT of one row, with further columns behind the record's own."""
    columns = (*table.columns, *more)
    values = ", ".join(f"${n}" for n in range(1, len(columns) + 1))
    return f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({values})"
