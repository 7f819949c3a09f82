"""A simulated Google: what it has accepted, what its devices did, and what it tells of that.

`Ledger` is the truth that records are compared with. Nothing of it is lost, also where Google forgets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.schedules.store import BEGAN, FLEET

_DESCRIBED = {"managementMode": "DEVICE_OWNER", "ownership": "COMPANY_OWNED", "apiLevel": 34, "state": "ACTIVE"}
ENDS_RECORD = ("WIPE", "RELINQUISH_OWNERSHIP")
CANCELLED = 1
CLEARED_APP = "com.example.tokenkeeper"
EXPIRY_CODES = (4, 4, 10, 13, None)


@dataclass
class Operation:
    """One accepted command. `outcome` = ok, error or never; `fate` = what comes of a cancel."""

    name: str
    command_id: str
    type: str
    outcome: str
    fate: str
    executed: int = 0
    begun: bool = False
    done: bool = False
    expired: bool = False
    ended_at: float = 0.0
    error: dict[str, Any] | None = None
    error_code: str | None = None
    forgotten: bool = False

    @property
    def device(self) -> str:
        """The name of its device."""
        return self.name.partition("/operations/")[0]

    @property
    def shown(self) -> dict[str, Any]:
        """The operation as Google answers it."""
        metadata: dict[str, Any] = {"type": self.type} | ({"errorCode": self.error_code} if self.error_code else {})
        if self.type == "CLEAR_APP_DATA" and self.done and self.executed:
            metadata["clearAppsDataStatus"] = {"results": {CLEARED_APP: {"clearingResult": "SUCCESS"}}}
        shown: dict[str, Any] = {"name": self.name, "metadata": metadata}
        return shown | ({"done": True} if self.done else {}) | ({"error": self.error} if self.error else {})


@dataclass
class Phone:
    """A device under one name. `leaving`: it has acknowledged what ends its record. `dropped`: Google knows it no more.
    `away`: it has another name now, and nothing that waits under this one will ever run. `former`: its earlier names.
    """

    name: str
    former: tuple[str, ...] = ()
    away: bool = False
    online: bool = True
    busy: bool = False
    leaving: bool = False
    dropped: bool = False
    operations: list[Operation] = field(default_factory=list)


class Google:
    """Accepts, runs, cancels, expires and forgets, each in its time on the loop's clock."""

    def __init__(
        self, dice: Random, tell: Callable[[str, dict[str, Any]], None], is_known: Callable[[str], bool]
    ) -> None:
        self.dice, self._tell, self._is_known = dice, tell, is_known
        self.phones = {str(d.external_name): Phone(str(d.external_name)) for d in FLEET}
        self.clock_off_s = dice.choice((0, 0, 0, -600, 600, 2))
        self.expiry_code = dice.choice(EXPIRY_CODES)
        self.purges = dice.random() < 0.1
        self.fates = dice.choice((("wins",), ("wins", "loses", "lost", "501", "404", "400")))
        self._last_millis = 0
        self._loop = asyncio.get_running_loop()

    @property
    def ledger(self) -> list[Operation]:
        """All operations that were ever accepted."""
        return [operation for phone in self.phones.values() for operation in phone.operations]

    def now_us(self) -> int:
        """What time it is for Google."""
        return BEGAN + int((self._loop.time() + self.clock_off_s) * 1_000_000)

    def accept(self, phone: Phone, command_id: str, kind: str, duration_s: float) -> Operation | None:
        """Take a command; None where the device is not known (any more)."""
        if phone.dropped:
            return None
        self._last_millis = max(self._last_millis + 1, self.now_us() // 1000)
        outcome = self.dice.choices(("ok", "error", "never"), (80, 10, 10))[0]
        fate = self.dice.choice(self.fates)
        operation = Operation(f"{phone.name}/operations/{self._last_millis}", command_id, kind, outcome, fate)
        phone.operations.append(operation)
        self._loop.call_later(duration_s, self._expire, phone, operation)
        self.kick(phone)
        return operation

    def find(self, name: str) -> Operation | None:
        """An operation that Google still knows."""
        phone = self.phones[name.partition("/operations/")[0]]
        if phone.dropped:
            return None
        return next((o for o in phone.operations if o.name == name and not o.forgotten), None)

    def described(self, phone: Phone) -> dict[str, Any]:
        """A device as Google describes it."""
        former = {"previousDeviceNames": list(phone.former)} if phone.former else {}
        return {"name": phone.name, **former, **_DESCRIBED}

    def cancel(self, operation: Operation) -> None:
        """Note the wish; its effect comes later, or never."""
        if operation.fate == "wins":
            self._loop.call_later(self.dice.choice((0, 0.1, 1, 5)), self._cancelled, operation)
        elif operation.fate == "loses" and not operation.begun and not operation.done:
            phone = self.phones[operation.device]
            operation.outcome = "ok"
            self.kick(phone)

    def kick(self, phone: Phone) -> None:
        """Let a device look for work."""
        if phone.busy or not phone.online or phone.leaving or phone.away:
            return
        operation = next((o for o in phone.operations if not o.done and not o.begun and o.outcome != "never"), None)
        if operation is not None:
            phone.busy = True
            self._loop.call_later(self.dice.choice((0, 0.02, 0.2, 2)), self._run, phone, operation)

    def switch(self, phone: Phone, *, online: bool) -> None:
        """A device comes or goes. What it has done it reports when it is back."""
        phone.online = online
        self.kick(phone)

    def enrol_again(self, phone: Phone, *, drops: bool = False) -> None:
        """A device that was erased, by us or by hand, is set up anew: it has another name from now on. `drops`: Google
        forgets the former one.
        """
        if phone.away or any(o.begun and not o.done for o in phone.operations):
            return  # what it is just doing would be lost, to Google and to us
        phone.away = True
        phone.dropped = phone.dropped or drops
        again = Phone(f"{phone.name}x", (*phone.former, phone.name), online=phone.online)
        self.phones[again.name] = again
        self._tell_of(again)
        if self.dice.random() < 0.3:  # the last word of what it was
            self._loop.call_later(self.dice.choice((0, 1, 10)), self._tell, "STATUS_REPORT", self.described(phone))

    def _tell_of(self, phone: Phone) -> None:
        """A phone has come in. What it was before may be missing at first."""
        if self.dice.random() < 0.5:
            self._tell("ENROLLMENT", self.described(phone))
            return
        self._tell("ENROLLMENT", {"name": phone.name})
        self._loop.call_later(self.dice.choice((0, 1, 5, 30)), self._tell, "STATUS_REPORT", self.described(phone))

    # ------------------------------------------------------------ what happens by itself

    def _run(self, phone: Phone, operation: Operation) -> None:
        phone.busy = False
        if phone.online and not operation.done and not operation.begun and not phone.away:
            operation.begun = True
            operation.executed += operation.outcome == "ok"
            phone.busy = True
            self._loop.call_later(self.dice.choice((0, 0, 0.05, 1)), self._report, phone, operation)
        else:
            self.kick(phone)

    def _report(self, phone: Phone, operation: Operation) -> None:
        if not phone.online:
            self._loop.call_later(1, self._report, phone, operation)
            return
        phone.busy = False
        operation.error_code = "INVALID_VALUE" if operation.outcome == "error" else None
        phone.leaving = operation.type in ENDS_RECORD and operation.outcome == "ok"
        self._end(operation)
        if phone.leaving:
            self._loop.call_later(self.dice.choice((0, 0, 0.5, 3)), self._drop, phone)
        else:
            self.kick(phone)

    def _drop(self, phone: Phone) -> None:
        phone.dropped = True
        self._tell("STATUS_REPORT", {"name": phone.name, "appliedState": "DELETED"})
        if self.dice.random() < 0.5:
            self._loop.call_later(self.dice.choice((0, 1, 10, 40)), self.enrol_again, phone)

    def _expire(self, phone: Phone, operation: Operation) -> None:
        if not operation.done and not operation.begun and not phone.dropped:
            operation.expired = True
            error = {"code": self.expiry_code} if self.expiry_code is not None else {}
            operation.error = {"message": "expired", **error}
            self._end(operation)
            self.kick(phone)

    def _cancelled(self, operation: Operation) -> None:
        if not operation.done and not operation.begun and not self.phones[operation.device].dropped:
            operation.error = {"code": CANCELLED, "message": "The operation was cancelled."}
            self._end(operation)

    def _end(self, operation: Operation) -> None:
        operation.done = True
        operation.ended_at = self._loop.time()
        self._tell("COMMAND", operation.shown)
        if self.purges:
            self._loop.call_later(self.dice.uniform(0, 60), self._forget, operation)

    def _forget(self, operation: Operation) -> None:
        # What is done is listed for longer than any attempt stays without an answer: else nobody could find it.
        if self._is_known(operation.name):
            operation.forgotten = True
        else:
            self._loop.call_later(5, self._forget, operation)
