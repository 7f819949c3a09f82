"""Google's limit on requests: a fixed window for each project, on the lab's clock."""

from collections import OrderedDict
from datetime import timedelta
from typing import Any

from heliograph_lab.amapi.errors import ApiError
from heliograph_lab.amapi.settings import EmulatorSettings
from heliograph_lab.amapi.wire import from_milliseconds, milliseconds, timestamp
from heliograph_lab.clock import LabClock

_MOST_PROJECTS = 1000  # whoever sends more names than that loses the counts of the oldest


class _Use:
    """What one project has asked for."""

    __slots__ = ("accepted", "refused", "start", "used")

    def __init__(self) -> None:
        self.start = 0  # of the window, in epoch milliseconds
        self.used = 0  # in the window
        self.accepted = 0
        self.refused = 0


class Quota:
    """Counts the authenticated requests of each project. In memory: a restart begins anew."""

    def __init__(self, clock: LabClock, settings: EmulatorSettings) -> None:
        self._clock = clock
        self._settings = settings
        self._projects: OrderedDict[str, _Use] = OrderedDict()

    def take(self, project: str) -> None:
        """Count one request; 429 when the project's window is used up. Refused ones use nothing up."""
        use = self._use(project)
        limit = self._settings.quota_limit
        if limit is not None and use.used >= limit:
            use.refused += 1
            raise ApiError(429, retry_after=self._settings.quota_retry_after)
        use.used += 1
        use.accepted += 1

    def shown(self) -> dict[str, Any]:
        """Limit and use, for the control API."""
        start = self._start()
        projects = [
            {
                "project": name,
                "used": use.used if use.start == start else 0,
                "accepted": use.accepted,
                "refused": use.refused,
            }
            for name, use in self._projects.items()
        ]
        ends = timestamp(from_milliseconds(start) + timedelta(seconds=self._settings.quota_window))
        return {
            "limit": self._settings.quota_limit,
            "windowSeconds": self._settings.quota_window,
            "windowEnds": ends,
            "projects": projects,
        }

    def _use(self, project: str) -> _Use:
        use = self._projects.setdefault(project, _Use())
        self._projects.move_to_end(project)
        if len(self._projects) > _MOST_PROJECTS:
            self._projects.popitem(last=False)
        start = self._start()
        if use.start != start:
            use.start, use.used = start, 0
        return use

    def _start(self) -> int:
        length = max(1, round(self._settings.quota_window * 1000))
        now = milliseconds(self._clock.now())
        return now - now % length
