"""The recording itself, of a real project: `make live`. Left out of every other run."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from tests.live.recorder import record
from tests.live.target import CannotAskError, recording_of, target_of

_TIME_TO_SWITCH_S = 60


class Terminal:
    """Real time, and a person who switches the device."""

    def now(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def switch(self, *, on: bool) -> None:
        if on:
            self.say(">>> Switch the device on now, and see that it has a network.")
            return
        self.say(f">>> The device has to be off, or in flight mode. Going on in {_TIME_TO_SWITCH_S} s.")
        await self.sleep(_TIME_TO_SWITCH_S)

    def say(self, line: str) -> None:
        print(line, flush=True)


@pytest.mark.live
async def test_record_what_the_project_answers() -> None:
    path, recording = recording_of(os.environ), {}
    try:
        recording = await record(target_of(os.environ), Terminal(), path)
    except CannotAskError as error:
        wrong = str(error)
    else:
        wrong = ""
    if wrong:
        pytest.fail(wrong, pytrace=False)
    print(f"Written to {path}. Not learnt: {', '.join(recording['notLearnt'])}.")
    assert recording["settings"], "no question was answered"
