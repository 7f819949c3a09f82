"""The provider accounts as they were a moment ago: each push asks for its organization's twice, and they seldom change.

Who changes one tells all processes at once; the time limit bounds a message that was lost.
"""

# ruff: noqa: S608 - made of the names of our own tables and columns

import time
from collections.abc import Mapping

from heliograph.domain.devices import ProviderAccount
from heliograph.ports.clock import Wakeups
from heliograph.store.database import LookUp, Reader
from heliograph.store.records import ACCOUNTS

_TOPIC = "accounts"
_KEPT_S = 1.0
_MOST_ORGANIZATIONS = 10_000
_ALL = LookUp(
    f"SELECT {ACCOUNTS.names} FROM provider_accounts WHERE organization_id = $1 ORDER BY created_at, id", ("text",)
)

_Known = Mapping[str, ProviderAccount]


class KnownAccounts:
    """What one process remembers of the accounts. Their settings are as sealed as in the database."""

    def __init__(self, reader: Reader, wakeups: Wakeups) -> None:
        self._reader = reader
        self._wakeups = wakeups
        self._kept: dict[str, tuple[float, _Known]] = {}
        self._watch = wakeups.watch(_TOPIC, self._forget)
        self._watch.__enter__()

    async def of(self, organization_id: str, *, anew: bool = False) -> _Known:
        """An organization's accounts by their ids, oldest first, as they are or were until a second ago; `anew`: as
        they are, which is what is remembered from now on.
        """
        kept, now = self._kept, time.monotonic()
        known = kept.get(organization_id)
        if anew or known is None or now - known[0] > _KEPT_S:
            rows = await self._reader.look_up(_ALL, organization_id)
            if len(kept) >= _MOST_ORGANIZATIONS:
                kept.clear()
            known = kept[organization_id] = (now, {a.id: a for a in map(ACCOUNTS.read, rows)})
        return known[1]

    def changed(self) -> None:
        """Tell every process that an account has changed."""
        self._forget()  # the message may wait where the database is away
        self._wakeups.notify([_TOPIC])

    def close(self) -> None:
        """Listen no more."""
        self._watch.__exit__(None, None, None)

    def _forget(self) -> None:
        self._kept = {}  # a new one: a read that began before the change writes what it finds to the old
