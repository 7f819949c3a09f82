"""What is known of the push services, of which each device brings one of its own choice: nothing that one service says
or does speaks of another.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from heliograph.guard import Origin, origin_of

_MOST_SERVICES = 1000  # devices name them


@dataclass(slots=True)
class Service:
    """One origin. `takes_key`: it has taken a push with the account's key."""

    takes_key: bool = False


@dataclass(slots=True)
class Services:
    """Those that an account was used with of late."""

    _known: "OrderedDict[Origin | None, Service]" = field(default_factory=OrderedDict)

    def of(self, url: str) -> Service:
        """The service behind an endpoint, or behind a message that it has named."""
        origin = origin_of(url)
        service = self._known.setdefault(origin, Service())
        self._known.move_to_end(origin)
        if len(self._known) > _MOST_SERVICES:
            self._known.popitem(last=False)
        return service
