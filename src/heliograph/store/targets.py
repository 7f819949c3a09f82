"""Records that are read together with the push addresses of an app on a device, as every push is accepted and sent."""

# ruff: noqa: S608 - made of the names of our own tables and columns

from typing import TypeVar

from heliograph.domain.devices import PushTarget
from heliograph.store.database import Rows
from heliograph.store.records import PUSH_TARGETS, Table

T = TypeVar("T")


def with_targets(table: Table[T], find: str, *, device: str, app: str) -> str:
    """A SELECT of one record as `r`, by another SELECT, once for each address of `app` on `device`, newest first.

    $1 is the organization. A record without an address comes once.
    """
    return f"""
SELECT {table.qualified("r")}, {PUSH_TARGETS.qualified("t")} FROM ({find}) AS r
LEFT JOIN push_targets t ON t.organization_id = $1 AND t.device_id = {device} AND t.app = {app}
ORDER BY t.registered_at DESC, t.provider
"""


def read_with_targets(table: Table[T], rows: Rows) -> tuple[T, list[PushTarget]]:
    """The record and its addresses, of rows that `with_targets` gave."""
    behind = len(table.columns)
    found = (tuple(row)[behind:] for row in rows)
    return table.read(rows[0]), [PUSH_TARGETS.read(target) for target in found if target[0] is not None]
