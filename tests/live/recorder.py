"""Asks every question and keeps the answers: a recording that shows no secret, with settings for the emulator."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from heliograph_lab.amapi import EmulatorSettings
from heliograph_lab.pubsub import PublisherSettings
from tests.live.project import Json, NotLearnt, Project, as_text
from tests.live.questions import QUESTIONS, UNASKED, Question
from tests.live.session import Patience, Session, Surroundings
from tests.live.target import Target

KINDS: dict[str, type[msgspec.Struct]] = {"amapi": EmulatorSettings, "pubsub": PublisherSettings}
SETTINGS = [f"{service}.{f.encode_name}" for service, kind in KINDS.items() for f in msgspec.structs.fields(kind)]
_MALFORMED = (LookupError, TypeError, ValueError, AttributeError)


class Recording:
    """What is known so far. `settings` can be PUT to the lab's /settings as it is."""

    def __init__(self, session: Session, device: Json) -> None:
        self._session = session
        self.settings: dict[str, Json] = {}
        self.not_learnt = {name: UNASKED.get(name, "the recording ended before it was asked") for name in SETTINGS}
        self._head = {"recordedAt": datetime.now(UTC).isoformat(timespec="seconds"), "device": device}
        self._asked: list[Json] = []
        self._differs: list[str] = []

    def take(self, question: Question, learnt: Json) -> None:
        """Keep what a question has found out, and the exchanges that show it."""
        for setting, value in learnt.items():
            if isinstance(value, NotLearnt):
                self._leave_open(setting, str(value))
            else:
                self._settle(question, setting, self._session.cleaner.clean(value))
        exchanges, self._session.project.exchanges = self._session.project.exchanges, []
        self._asked.append({"question": question.name, "does": question.does, "exchanges": exchanges})

    def _leave_open(self, setting: str, why: str) -> None:
        service, _, member = setting.partition(".")
        if member not in self.settings.get(service, {}):
            self.not_learnt[setting] = why

    def _settle(self, question: Question, setting: str, value: Any) -> None:
        service, _, member = setting.partition(".")
        try:
            msgspec.convert({member: value}, KINDS[service])
        except msgspec.ValidationError as error:
            self._leave_open(setting, f"Google's answer is {value!r}, which the emulator cannot give: {error}")
            return
        known = self.settings.setdefault(service, {})
        if known.get(member, value) != value:
            self._differs.append(f"{setting}: {question.name} found {value!r}, an earlier question {known[member]!r}")
        known[member] = value
        self.not_learnt.pop(setting, None)

    def shown(self) -> Json:
        """The recording as it is written, fit to be shown to anybody."""
        shown = {
            **self._head,
            "settings": self.settings,
            "notLearnt": self.not_learnt,
            "differs": self._differs,
            "measured": self._session.measured,
            "asked": self._asked,
        }
        cleaned: Json = self._session.cleaner.clean(shown)
        return cleaned

    def write(self, path: Path) -> None:
        """Write it whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(as_text(self.shown()) + "\n")
        fresh.replace(path)


async def record(target: Target, around: Surroundings, path: Path, patience: Patience | None = None) -> Json:
    """Ask a project everything, and write what was learnt after each question, so that an end at any time keeps it.

    CannotAskError: there is nothing to ask, and nothing was done.
    """
    project = Project(target, around.sleep)
    session = Session(target, project, around, patience or Patience())
    try:
        recording = Recording(session, await session.check())
        project.exchanges.clear()
        try:
            await around.switch(on=False)
            for number, question in enumerate(QUESTIONS, 1):
                around.say(f"[{number}/{len(QUESTIONS)}] {question.name}. To the device: {question.does}")
                recording.take(question, await _asked(session, question))
                recording.write(path)
        finally:
            await session.tidy_up()
    finally:
        await project.close()
    return recording.shown()


async def _asked(session: Session, question: Question) -> Json:
    """What a question has found out; one that fails never stops the others."""
    if (lack := session.target.lacks(question.needs)) is not None:
        learnt: Json = dict.fromkeys(question.settings, NotLearnt(lack))
    else:
        try:
            learnt = await question.ask(session)
        except NotLearnt as error:
            learnt = dict.fromkeys(question.settings, error)
        except _MALFORMED as error:
            odd = NotLearnt(f"an answer has another form than expected ({type(error).__name__})")
            learnt = dict.fromkeys(question.settings, odd)
    for setting, value in learnt.items():
        said = f"not learnt: {value}" if isinstance(value, NotLearnt) else repr(value)
        session.around.say(f"    {setting}: {session.cleaner.clean(said)}")
    return learnt
