"""One session with a project: the commands that were issued in it, and how the world around is moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from tests.live.project import Answer, Cleaner, Json, NotLearnt, Project
from tests.live.target import CannotAskError, Target

_SHORTEST_STEP_S = 0.5
_STEP = 0.1  # of the time that has passed: a long wait costs few requests


class Surroundings(Protocol):
    """What is not Google's: time, the device's switch, and whoever looks on."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        ...

    async def switch(self, *, on: bool) -> None:
        """Have the device switched on or off, or ask for it."""
        ...

    def say(self, line: str) -> None:
        """Show progress."""
        ...


@dataclass(frozen=True)
class Patience:
    """How long is waited, in seconds."""

    outcome: float = 600
    device: float = 1800  # until somebody has switched it on, and it has come online
    silence: float = 300  # without a notification, until it counts as not sent


@dataclass(frozen=True)
class Ended:
    """An operation that has ended. `between`: seconds from the wait's begin to the last look at which it was open, and
    to the first at which it was not."""

    operation: Json
    between: tuple[float, float]


class Session:
    """Issues commands to the device, each with a time after which it is over by itself."""

    def __init__(self, target: Target, project: Project, around: Surroundings, patience: Patience) -> None:
        self.target, self.project, self.around, self.patience = target, project, around, patience
        self.cleaner = Cleaner(target)
        self.known: dict[str, str] = {}  # what an operation is an example of → its name
        self.measured: dict[str, list[Any]] = {}  # what stands behind a setting that is not read but measured
        self._open: list[str] = []

    async def check(self) -> Json:
        """See that there is something to ask; what may be shown of the device. CannotAskError says what is wrong."""
        shown: Json = {}
        for name in (self.target.enterprise, self.target.device):
            try:
                answer = await self.project.ask("GET", name, kept=lambda _: {})
            except NotLearnt as error:
                raise CannotAskError(f"{name} cannot be asked: {error}.") from None
            if answer.status != 200:
                raise CannotAskError(f"{name} cannot be read: Google answers {answer.status} {answer.message}")
            shown = answer.body
        return {name: shown[name] for name in ("apiLevel", "managementMode", "ownership") if name in shown}

    async def issue(self, **command: Any) -> Json:
        """A new operation of the device; a LOCK unless something else is said."""
        body = {"type": "LOCK", **command}
        answer = await self.project.ask("POST", f"{self.target.device}:issueCommand", body)
        if answer.status != 200 or not isinstance(answer.body.get("name"), str):
            raise NotLearnt(f"the command was refused: {answer.status} {answer.message}")
        self._open.append(answer.body["name"])
        return answer.body

    async def get(self, name: str) -> Json:
        """The operation as it is now."""
        answer = await self.project.ask("GET", name)
        if answer.status != 200:
            raise NotLearnt(f"the operation cannot be read: {answer.status} {answer.message}")
        return answer.body

    async def cancel(self, name: str) -> Answer:
        """Ask for the end of an operation."""
        return await self.project.ask("POST", f"{name}:cancel")

    async def ended(self, name: str, within_s: float) -> Ended:
        """Wait for the end of an operation."""
        begun, last = self.around.now(), 0.0
        while True:
            operation = await self.get(name)
            passed = self.around.now() - begun
            if operation.get("done"):
                self._open.remove(name)
                return Ended(operation, (round(last, 3), round(passed, 3)))
            if passed >= within_s:
                raise NotLearnt(f"the operation was still open after {passed:.0f} s")
            last = passed
            step = max(_SHORTEST_STEP_S, _STEP * passed)
            if step > _SHORTEST_STEP_S:
                self.around.say(f"    still open after {passed:.0f} s of {within_s:.0f} s at most")
            await self.around.sleep(step)

    def example(self, of: str) -> str:
        """The name of an operation that an earlier question has left."""
        if of not in self.known:
            raise NotLearnt(f"there is no {of} operation to ask about")
        return self.known[of]

    async def tidy_up(self) -> None:
        """Take back what is still open."""
        for name in self._open:
            try:
                if not (await self.get(name)).get("done"):
                    self.around.say(f"Taking back {self.cleaner.clean(name)}")
                    await self.cancel(name)
            except NotLearnt as error:
                self.around.say(f"    not taken back ({error}); it ends by itself")
