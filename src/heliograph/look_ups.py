"""Look-ups of names by the system's resolver, in threads that all organizations share.

A look-up that has begun cannot be ended: it holds its thread until the resolver gives up, 5 to 30 s where the servers
of a name do not answer, also when nobody waits for it any more. So each organization has a share: an 8th of the threads
that the others left. The more of them have names that hang, the less each gets, and somebody else finds some. A name is
looked up once at a time, so one device with such a name holds one thread.
"""

import asyncio
import socket
from collections import Counter, deque
from collections.abc import Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from math import ceil
from threading import Lock

from heliograph.outbound import NoConnection

THREADS = 64
WITHIN_S = 8.0  # less than a push may take, so that it is told why
_LEFT = 8
_LATE = "the look-up of its name takes too long"
_BUSY = "too many look-ups of other names take too long"

Name = tuple[Hashable, str, int]  # whose look-up, host, port


@dataclass(slots=True, eq=False)
class _LookUp:
    name: Name
    found: "Future[list[str]]" = field(default_factory=Future)
    awaited: int = 0  # by so many
    begun: bool = False


class LookUps:
    """Threads for look-ups, and who may use how many of them. May be used by several event loops."""

    def __init__(self, threads: int = THREADS) -> None:
        self._most = threads
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="look-up")
        self._lock = Lock()  # of all below
        self._asked: dict[Name, _LookUp] = {}
        self._busy: Counter[Hashable] = Counter()  # threads, by who has them
        self._waiting: dict[Hashable, deque[_LookUp]] = {}

    async def find(self, owner: Hashable, host: str, port: int, *, within_s: float = WITHIN_S) -> list[str]:
        """The addresses of a name, in the resolver's order. Raises OSError, UnicodeError and NoConnection.

        `owner`: whose share of the threads is used. After `within_s` seconds it is NoConnection that is raised.
        """
        look_up = self._ask((owner, host.lower(), port))
        limit = asyncio.timeout(within_s)
        try:
            async with limit:
                found = await asyncio.shield(asyncio.wrap_future(look_up.found))
                return found.copy()
        except TimeoutError as error:
            if not limit.expired():
                raise  # the resolver's own
            raise NoConnection(_LATE if look_up.begun else _BUSY) from error
        finally:
            self._leave(look_up)

    def _ask(self, name: Name) -> _LookUp:
        with self._lock:
            look_up = self._asked.get(name)
            if look_up is None:
                look_up = self._asked[name] = _LookUp(name)
                self._waiting.setdefault(name[0], deque()).append(look_up)
                self._begin(name[0])
            look_up.awaited += 1
            return look_up

    def _leave(self, look_up: _LookUp) -> None:
        owner = look_up.name[0]
        with self._lock:
            look_up.awaited -= 1
            if not look_up.awaited and not look_up.begun:
                del self._asked[look_up.name]
                self._waiting[owner].remove(look_up)
                self._begin(owner)

    def _begin(self, owner: Hashable) -> None:
        """Begin what the owner waits for, as far as its share goes."""
        waiting = self._waiting[owner]
        while waiting and self._busy[owner] < ceil((self._most - self._busy.total()) / _LEFT):
            look_up = waiting.popleft()
            look_up.begun = True
            self._busy[owner] += 1
            with suppress(RuntimeError):  # no more threads to be had: one of those that are there will take it
                self._threads.submit(self._run, look_up)
        if not waiting:
            del self._waiting[owner]

    def _run(self, look_up: _LookUp) -> None:
        _, host, port = look_up.name
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except Exception as error:  # noqa: BLE001 (whoever asked gets it)
            self._end(look_up)
            look_up.found.set_exception(error)
        else:
            self._end(look_up)
            look_up.found.set_result(list(dict.fromkeys(str(address[0]) for *_, address in found)))

    def _end(self, look_up: _LookUp) -> None:
        owner = look_up.name[0]
        with self._lock:
            del self._asked[look_up.name]
            self._busy[owner] -= 1
            if not self._busy[owner]:
                del self._busy[owner]
            for other in sorted(self._waiting, key=self._busy.__getitem__):
                self._begin(other)


@cache
def look_ups() -> LookUps:
    """Those of this process."""
    return LookUps()
