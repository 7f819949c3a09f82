"""The channel against the emulator that Google's own client is tested with: token, command, result, cancel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from heliograph.channels import AmapiChannel, AmapiSettings
from heliograph.domain.catalog import TYPES
from heliograph.domain.fields import Fields
from heliograph.outbound.google import TokenSource
from heliograph.ports.channel import CancelTaken, Gone, Operations, Refused, Taken
from tests.channels.google import account, command, device
from tests.lab.amapi.rig import ENTERPRISE, Rig, running
from tests.lab.serving import serving

BODIES: dict[str, dict[str, Any]] = {
    "RESET_PASSWORD": {"newPassword": "canary-123456", "resetPasswordFlags": ["LOCK_NOW"]},
    "CLEAR_APP_DATA": {"clearAppsDataParams": {"packageNames": ["com.example"]}},
    "START_LOST_MODE": {"startLostModeParams": {"lostMessage": {"defaultMessage": "Call me"}}},
    "STOP_LOST_MODE": {"stopLostModeParams": {}},
    "ADD_ESIM": {"addEsimParams": {"activationCode": "LPA:1$canary-x"}},
    "REMOVE_ESIM": {"removeEsimParams": {"iccId": "8988303000000614227"}},
}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(tmp_path / "lab") as rig:
        yield rig


@pytest.fixture
async def channel(rig: Rig) -> AsyncIterator[AmapiChannel]:
    async with serving(rig.emulator.app) as url:
        tokens = TokenSource(account(f"{url}/token"))
        channel = AmapiChannel(tokens, AmapiSettings(url, read_timeout_s=30))
        yield channel
        await channel.close()


PHONE = device(f"{ENTERPRISE}/devices/d1")


async def test_a_command_and_its_cancel(rig: Rig, channel: AmapiChannel) -> None:
    await rig.set(online=False)
    taken = await channel.issue(PHONE, command(), {"duration": "600s"}, 30)
    assert isinstance(taken, Taken)
    assert taken.operation["metadata"]["duration"] == "600s"
    listed = await channel.operations(PHONE)
    assert isinstance(listed, Operations)
    assert [operation["name"] for operation in listed.items] == [taken.name]
    assert await channel.cancel(taken.name) == CancelTaken()
    await rig.done(taken.name)
    ended = await channel.operation(taken.name)
    assert isinstance(ended, dict)
    assert ended["error"]["code"] == 1


@pytest.mark.parametrize("kind", [name for name, entry in TYPES.items() if entry.amapi])
async def test_the_body_of_every_type_is_one_that_google_takes(rig: Rig, channel: AmapiChannel, kind: str) -> None:
    await rig.set(online=False)
    form = TYPES[kind].amapi
    assert form is not None
    fields = Fields(BODIES.get(kind, {}))
    params = form.parse(fields)
    fields.raise_if_wrong()
    answer = await channel.issue(PHONE, command(kind), params.public | params.secret | {"duration": "60s"}, 30)
    assert isinstance(answer, Taken), answer
    assert "canary" not in repr(answer)


async def test_what_google_does_not_know(channel: AmapiChannel) -> None:
    nobody = device(f"{ENTERPRISE}/devices/nobody")
    refused = await channel.issue(nobody, command(), {"duration": "60s"}, 30)
    assert isinstance(refused, Refused)
    assert refused.gone
    assert isinstance(await channel.operations(nobody), Gone)
    assert isinstance(await channel.operation(f"{ENTERPRISE}/devices/d1/operations/1"), Gone)
