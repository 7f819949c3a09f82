"""What this process has learnt of the accounts at push providers: which of them wait, and which are out of order.

A service that refuses many of an account's addresses in a row does not speak of so many dead devices: somebody gave the
account other settings than its apps have. Then its addresses are not given up, its pushes wait, now and then one finds
out whether the service takes them again, and the organization is told.

Where each device chooses its service, one that refuses the account speaks for its device alone. When several do, the
organization is told; the others' pushes wait only if nothing has been taken. What such a service says of addresses
counts for nothing here: its provider knows which of them say so of many (`providers/webpush/services.py`).
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field, replace

from heliograph.domain.record import record
from heliograph.ports.push import Accepted, Misconfigured, Outcome, Rejected, RetryLater

_WINDOW = 40  # outcomes that are looked at
_ENOUGH = 20  # of them, before anything is concluded of an account that takes some
_SHARE = 0.5  # of refused addresses
# Devices refused by an account that takes none. That three dead ones of a fleet come first is rare (one in 8,000 where
# every twentieth is dead) and costs a pause; each more is an address that is given up for nothing.
_FEW = 3
_DOUBT_S = 3600  # so long the word of one device's service counts; while a push to it waits, it is asked again
_PATIENCE_S = 60.0  # as for an acknowledgement: app.routes
_MOST_ACCOUNTS = 10_000
_SECOND = 1_000_000


@record
class Lesson:
    """What follows from an outcome. `fault`: why the account is out of order; None = it works, if `tells_fault`.

    `quarantine`: the address is given up. `try_again`: it was refused, and is not to blame. `revive`: nor are those
    that were given up of late. `reroute`: what waits for the account does better to go another way.
    """

    tells_fault: bool = False
    fault: str | None = None
    quarantine: bool = False
    try_again: bool = False
    revive: bool = False
    reroute: bool = False


NOTHING = Lesson()


@dataclass(slots=True)
class _Account:
    """`refused`: of the last outcomes, the devices whose address was refused; None = a success. A device counts once,
    whatever it registers. `fault`: why it is out of order. `renewed_at`: since when its settings hold. `paused_at`,
    `paused_until`: the pause that we made up, which a success ends. `told_until`: the one that the service asked for,
    which none does. `tried_at`: when a push was last given to it. `said_at`: when it was last told that it works.
    `is_told`: nothing else that was to be told of it was lost. `settings_at`: when they were made, as the store says.
    `busy_since`: since when its service has made all wait, and took nothing; `is_busy_again`: more than once;
    `is_moved`: what waits was moved since. `doubts`: the devices whose own service refuses the account, each since
    when, and `doubt`: what it says. `told`: the fault that was told last.
    """

    refused: "deque[str | None]" = field(default_factory=lambda: deque(maxlen=_WINDOW))
    fault: str | None = None
    renewed_at: int = 0
    paused_at: int = 0
    paused_until: int = 0
    told_until: int = 0
    tried_at: int = 0
    said_at: int | None = None
    is_told: bool = True
    settings_at: int | None = None
    busy_since: int | None = None
    is_busy_again: bool = False
    is_moved: bool = False
    doubts: "OrderedDict[str, int]" = field(default_factory=OrderedDict)
    doubt: str = ""
    told: str | None = None

    def free_at(self) -> int:
        """The end of its pauses."""
        return max(self.paused_until, self.told_until)

    def rests(self, now: int) -> bool:
        """See `AccountHealth.rests`."""
        wait = self.free_at() - self.busy_since if self.is_busy_again and self.busy_since is not None else 0
        is_long = max(self.told_until - now, wait) > _PATIENCE_S * _SECOND
        return is_long and self.free_at() > now

    def doubted(self, now: int) -> str | None:
        """The fault that several devices' services find, whatever those of others take."""
        of_late = sum(now - at < _DOUBT_S * _SECOND for at in self.doubts.values())
        return f"for several devices, {self.doubt}" if of_late >= _FEW else None


@dataclass(slots=True)
class AccountHealth:
    """See the module. Each process finds out for itself, which costs a few requests. All times in microseconds.

    `pause_s`: how long an account waits that is out of order. `longest_s`: no Retry-After makes it wait longer; it is
    only kept in memory, so one wrong header costs no more than that.
    """

    pause_s: float = 30.0
    longest_s: float = 600.0
    _accounts: "OrderedDict[str, _Account]" = field(default_factory=OrderedDict)
    _waiting: dict[str, None] = field(default_factory=dict)  # whose pauses may not be over, in a lasting order

    def paused(self, now: int) -> dict[str, int]:
        """The accounts that wait, each with the end of its pause."""
        ends = {id_: account.free_at() for id_ in self._waiting if (account := self._accounts.get(id_))}
        paused = {id_: end for id_, end in ends.items() if end > now}
        self._waiting = dict.fromkeys(paused)
        return paused

    def learn(self, account_id: str, device_id: str, outcome: Outcome, began: int, now: int) -> Lesson:
        """Take note of the outcome of a sending to a device that `began` then, and say what follows from it."""
        account = self._of(account_id)
        lesson = self._lesson(account, device_id, outcome, began, now)
        if account.free_at() > now:
            self._waiting[account_id] = None
        return lesson

    def _lesson(self, account: _Account, device_id: str, outcome: Outcome, began: int, now: int) -> Lesson:
        if began < account.renewed_at:  # it speaks of settings that are gone
            return Lesson(try_again=isinstance(outcome, Rejected) and outcome.token_gone)
        match outcome:
            case Accepted():
                account.refused.append(None)
                account.doubts.pop(device_id, None)
                return self._works(account, now) if began >= account.paused_at else NOTHING
            case Rejected(token_gone=True, one_device=True):
                return Lesson(quarantine=True)
            case Rejected(token_gone=True):
                return self._refused(account, device_id, outcome.reason, now)
            case Misconfigured(one_device=True):
                return self._doubted(account, device_id, outcome.reason, now)
            case Misconfigured():
                return self._out_of_order(account, outcome.reason, now)
            case RetryLater(account_wide=True):
                return self._busy(account, outcome.after_s, began, now)
        return NOTHING

    def rests(self, account_id: str, now: int) -> bool:
        """Whether its service makes all wait for longer than a push waits for its next way: it has asked for so long,
        or said so again after a wait.
        """
        account = self._accounts.get(account_id)
        return account is not None and account.rests(now)

    def may_try(self, account_id: str, now: int) -> bool:
        """Whether it is time that a push finds out about an account that is out of order. Else one whose pushes all
        have another way would stay so for ever.
        """
        account = self._accounts.get(account_id)
        if account is None:
            return True
        return now >= max(account.free_at(), account.tried_at + int(self.pause_s * _SECOND))

    def given(self, account_id: str, now: int) -> None:
        """A push is going to be sent through it."""
        self._of(account_id).tried_at = now

    def say_again(self, account_id: str, lesson: Lesson) -> None:
        """What follows from an outcome could not be stored."""
        account = self._of(account_id)
        account.said_at = None
        account.is_told = account.is_told and not (lesson.fault or lesson.reroute)

    def that_holds(self, account_id: str, began: int, lesson: Lesson) -> Lesson:
        """What still follows from a sending that `began` then: nothing once the account has got other settings, and
        its address is not given up when the account was found to be to blame meanwhile.
        """
        account = self._of(account_id)
        if began < account.renewed_at:
            return NOTHING
        return replace(lesson, quarantine=False) if account.fault is not None else lesson

    def heard_of_settings(self, account_id: str, made_at: int, began: int, now: int) -> None:
        """When its settings were made, as the store says after a sending that `began` then: maybe in another process,
        since the sending was, or since the one before that was refused. By a clock that is ahead: they hold from now.
        """
        account = self._of(account_id)
        known = began if account.settings_at is None else account.settings_at
        if made_at > max(known, account.renewed_at):
            self.renew(account_id, min(made_at, now))
        account = self._of(account_id)
        account.settings_at = made_at
        if made_at <= now:
            account.renewed_at = max(account.renewed_at, made_at)  # what comes late from those before says nothing

    def renew(self, account_id: str, now: int) -> None:
        """Forget what the account's former settings are to blame for. What the service asked for stays."""
        self._accounts[account_id] = _Account(renewed_at=now, told_until=self._of(account_id).told_until)

    def _of(self, account_id: str) -> _Account:
        account = self._accounts.get(account_id)
        if account is None:
            account = self._accounts[account_id] = _Account()
            if len(self._accounts) > _MOST_ACCOUNTS:
                self._accounts.popitem(last=False)
        return account

    def _refused(self, account: _Account, device_id: str, reason: str, now: int) -> Lesson:
        if device_id not in account.refused:
            account.refused.append(device_id)
        refused, of = sum(device is not None for device in account.refused), len(account.refused)
        if of < (_FEW if refused == of else _ENOUGH) or refused < _SHARE * of:
            return Lesson(quarantine=True)
        # While it lasts the numbers stay those that were told first.
        fault = f"{refused} of the last {of} addresses were refused ({reason}): are its settings those of the apps?"
        # Of those that one pause let through.
        is_first = account.fault is None or account.paused_until <= now or not account.is_told
        lesson = self._out_of_order(account, account.fault or fault, now)
        return replace(lesson, try_again=True, revive=is_first)

    def _doubted(self, account: _Account, device_id: str, reason: str, now: int) -> Lesson:
        account.doubts[device_id], account.doubt = now, reason
        account.doubts.move_to_end(device_id)
        if len(account.doubts) > _WINDOW:
            account.doubts.popitem(last=False)
        fault = account.doubted(now)
        if fault is None:
            return NOTHING
        if None in account.refused:  # what others' services take must not wait for this
            return self._tell(account, fault, now)
        return self._out_of_order(account, fault, now)

    def _busy(self, account: _Account, after_s: float | None, began: int, now: int) -> Lesson:
        rested = account.rests(now)
        account.is_busy_again |= account.busy_since is not None and began >= account.free_at()
        account.busy_since = now if account.busy_since is None else account.busy_since
        if after_s is None:
            self._pause(account, now)
        else:
            account.told_until = max(account.told_until, now + int(min(after_s, self.longest_s) * _SECOND))
        is_long = account.told_until - now > _PATIENCE_S * _SECOND  # short ones would have the queue walked at each end
        is_done = rested or (account.is_moved and not is_long)
        if not account.rests(now) or (is_done and account.is_told):
            return NOTHING
        account.is_told = account.is_moved = True
        return Lesson(reroute=True)

    def _out_of_order(self, account: _Account, fault: str, now: int) -> Lesson:
        is_news = account.fault is None or not account.is_told
        account.said_at, account.fault, account.told, account.is_told = None, fault, fault, True
        self._pause(account, now)
        return Lesson(tells_fault=True, fault=fault, reroute=is_news)

    def _pause(self, account: _Account, now: int) -> None:
        account.paused_at, account.paused_until = now, now + int(self.pause_s * _SECOND)

    def _works(self, account: _Account, now: int) -> Lesson:
        account.paused_until, account.fault, account.is_told = 0, None, True
        account.busy_since, account.is_busy_again, account.is_moved = None, False, False
        return self._tell(account, account.doubted(now), now)

    def _tell(self, account: _Account, fault: str | None, now: int) -> Lesson:
        """Told now and then: another process, or one before, may have stored something else."""
        is_recent = account.said_at is not None and now - account.said_at < self.pause_s * _SECOND
        if is_recent and fault == account.told:
            return NOTHING
        account.said_at, account.told = now, fault
        return Lesson(tells_fault=True, fault=fault)
