"""A command that cannot work on a device is refused, or ends, before Google hears of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heliograph.app.cancel_command import cancel_command
from heliograph.app.google_devices import take_over
from heliograph.app.request_command import read_android_request
from heliograph.app.setup import import_from_google
from heliograph.domain.devices import Device
from heliograph.domain.errors import InvalidInput
from heliograph.domain.fields import Fields
from heliograph.domain.ladder import Issue, Rung
from heliograph.ports.channel import Gone, Unreachable
from tests.app.conftest import DEVICE_NAME, Desk

PERSONAL = {"managementMode": "PROFILE_OWNER", "ownership": "PERSONALLY_OWNED"}
COMPANY = {"managementMode": "PROFILE_OWNER", "ownership": "COMPANY_OWNED"}
FULL = {"managementMode": "DEVICE_OWNER", "ownership": "COMPANY_OWNED"}
ESIM = {"activationCode": "LPA:1$canary", "activationState": "ACTIVATED"}
LOST = {"startLostModeParams": {"lostMessage": {"defaultMessage": "Lost"}}}

# A body, a device on which it cannot work, the member that is named, the code.
UNFIT: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    ({"type": "REBOOT"}, PERSONAL, "type", "MANAGEMENT_MODE"),
    ({"type": "REBOOT"}, COMPANY, "type", "MANAGEMENT_MODE"),
    ({"type": "REBOOT"}, FULL | {"apiLevel": 23}, "type", "API_LEVEL"),
    ({"type": "START_LOST_MODE", **LOST}, PERSONAL, "type", "MANAGEMENT_MODE"),
    ({"type": "START_LOST_MODE", **LOST}, COMPANY | {"apiLevel": 32}, "type", "API_LEVEL"),
    ({"type": "STOP_LOST_MODE"}, PERSONAL, "type", "MANAGEMENT_MODE"),
    ({"type": "RELINQUISH_OWNERSHIP"}, PERSONAL, "type", "MANAGEMENT_MODE"),
    ({"type": "REQUEST_DEVICE_INFO"}, FULL, "type", "MANAGEMENT_MODE"),
    ({"type": "ADD_ESIM", "addEsimParams": ESIM}, PERSONAL, "addEsimParams.activationState", "MANAGEMENT_MODE"),
]


def known(desk: Desk, told: dict[str, Any]) -> Device:
    return replace(
        desk.android,
        management_mode=told.get("managementMode"),
        ownership=told.get("ownership"),
        facts={name: told[name] for name in ("apiLevel",) if name in told},
    )


@pytest.mark.parametrize(("body", "told", "member", "code"), UNFIT)
async def test_where_the_device_is_known_nothing_is_stored(
    desk: Desk, body: dict[str, Any], told: dict[str, Any], member: str, code: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        await desk.command(body, known(desk, told))
    assert [error.path for error in refused.value.fields] == [member]
    assert await desk.work.commands.live_of_device(desk.android.id, 10) == []
    assert await desk.pay() == []


@pytest.mark.parametrize(("body", "told", "member", "code"), UNFIT)
async def test_where_it_is_not_known_google_is_asked_once_and_the_command_ends_unissued(
    desk: Desk, body: dict[str, Any], told: dict[str, Any], member: str, code: str
) -> None:
    desk.google.described = told
    command = await desk.command(body)
    assert await desk.pay() == ["issue"]
    ended = await desk.now(command)
    assert ended.rung is Rung.FAILED
    assert ended.reason is not None
    assert ended.reason.code == code
    assert (ended.secret, ended.operation, ended.receipt) == (None, None, None)
    assert desk.google.issued == []
    assert desk.google.asked == [DEVICE_NAME]
    evidence = (await desk.history(command))[-1].evidence
    assert evidence == {"issued": False, **told}
    # From now on it is known.
    device = await desk.work.devices.find("android", desk.android.id)
    assert device is not None
    assert (device.management_mode, device.ownership) == (told["managementMode"], told["ownership"])
    assert device.facts == {name: told[name] for name in ("apiLevel",) if name in told}
    with pytest.raises(InvalidInput):
        await desk.command(body, device)


async def test_what_fits_is_issued_and_asked_about_once(desk: Desk) -> None:
    first = await desk.command({"type": "REBOOT"})
    await desk.pay()
    second = await desk.command({"type": "REBOOT"})
    await desk.pay()
    assert [(await desk.now(c)).rung for c in (first, second)] == [Rung.ISSUED, Rung.ISSUED]
    assert desk.google.asked == [DEVICE_NAME]


async def test_what_works_anywhere_is_not_asked_about(desk: Desk) -> None:
    for body in ({"type": "LOCK"}, {"type": "WIPE"}, {"type": "CLEAR_APP_DATA", "clearAppsDataParams": {"packageNames": ["a.b"]}}):  # fmt: skip # noqa: E501
        await desk.command(body)
    await desk.pay()
    assert desk.google.asked == []
    assert len(desk.google.issued) == 3


async def test_while_google_cannot_be_asked_nothing_is_issued_and_a_cancel_is_proven(desk: Desk) -> None:
    desk.google.unreachable = True
    command = await desk.command({"type": "REBOOT", "duration": "3600s"})
    for _ in range(4):
        assert await desk.pay() == ["issue"]
        assert (await desk.now(command)).rung is Rung.QUEUED
        desk.clock.advance(60)
    after = await cancel_command(desk.services, desk.work, command.id, desk.android.id, "key:x", "over")
    assert after.rung is Rung.CANCELLED
    desk.google.unreachable = False
    await desk.pay()
    assert desk.google.issued == []


async def test_it_goes_on_once_google_can_be_asked(desk: Desk) -> None:
    desk.google.unreachable = True
    command = await desk.command({"type": "REBOOT"})
    await desk.pay()
    desk.google.unreachable = False
    desk.clock.advance(60)
    await desk.pay("issue", times=1)
    assert (await desk.now(command)).rung is Rung.ISSUED


@pytest.mark.parametrize("told", [{}, {"managementMode": "PROFILE_OWNER"}, {"managementMode": "MANAGEMENT_MODE_UNSPECIFIED"}])  # fmt: skip # noqa: E501
async def test_where_google_does_not_say_it_either_it_is_not_issued(desk: Desk, told: dict[str, Any]) -> None:
    desk.google.described = told
    command = await desk.command({"type": "REBOOT"})
    await desk.pay()
    ended = await desk.now(command)
    assert ended.reason is not None
    assert (ended.rung, ended.reason.code) == (Rung.FAILED, "MANAGEMENT_MODE")
    assert desk.google.issued == []


async def test_a_device_that_google_does_not_know_takes_nothing(desk: Desk) -> None:
    desk.google.gone = True
    command = await desk.command({"type": "REBOOT"})
    await desk.pay()
    assert (await desk.now(command)).rung is Rung.UNDELIVERABLE
    assert desk.google.issued == []


async def test_what_was_learnt_between_creation_and_issue_counts(desk: Desk) -> None:
    command = await desk.command({"type": "REBOOT"})
    await desk.work.setup.save_device(known(desk, PERSONAL))
    await desk.pay()
    assert (await desk.now(command)).rung is Rung.FAILED
    assert (await desk.history(command))[-1].source == "dispatcher"
    assert (desk.google.issued, desk.google.asked) == ([], [])


async def test_a_short_pin_ends_unissued_and_unshown(desk: Desk) -> None:
    command = await desk.command({"type": "RESET_PASSWORD", "newPassword": "81726"})
    await desk.work.setup.save_device(known(desk, FULL | {"apiLevel": 34}))
    await desk.pay()
    ended = await desk.now(command)
    assert (ended.rung, ended.secret) == (Rung.FAILED, None)
    assert "81726" not in repr((ended, await desk.history(command)))
    assert desk.google.issued == []


async def test_a_pull_keeps_the_api_level(desk: Desk) -> None:
    desk.google.listed = [
        {"name": DEVICE_NAME, **PERSONAL, "apiLevel": 33},
        {"name": f"{DEVICE_NAME}2", "apiLevel": True},
    ]
    first, second = await import_from_google(desk.services, desk.organization, "enterprises/LC0test")
    assert (first.id, first.facts) == (desk.android.id, {"apiLevel": 33})
    assert second.facts == {}
    with pytest.raises(InvalidInput):
        await desk.command({"type": "REBOOT"}, first)


@pytest.mark.parametrize("body", [{"type": "WIPE"}, {"wipeParams": {}}, {"type": None, "wipeParams": []},
                                  {"type": "WIPE", "duration": "soon"}, {"type": "REQUEST_DEVICE_INFO"}])  # fmt: skip
def test_without_its_permission_nothing_else_is_said(body: dict[str, Any]) -> None:
    for granted in ((), ("*",), ("mdm.android.*",), ("mdm.android.command.create", "mdm.aosp.*")):
        with pytest.raises(InvalidInput) as refused:
            read_android_request(Fields(body), granted)
        assert [error.path for error in refused.value.fields] == ["type"]


async def test_one_that_enrols_again_while_google_is_asked_is_looked_at_anew(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = desk.google.device
    again = {"name": f"{DEVICE_NAME}-again", "previousDeviceNames": [DEVICE_NAME], **FULL}

    async def asked(name: str) -> dict[str, Any] | Gone | Unreachable:
        monkeypatch.setattr(desk.google, "device", ask)
        enterprise = await desk.work.setup.enterprise(desk.android.enterprise_id or "")
        assert enterprise is not None
        await take_over(desk.services, desk.work, enterprise, again)
        return await ask(name)

    monkeypatch.setattr(desk.google, "device", asked)
    command = await desk.command({"type": "REBOOT"})
    for _ in range(2):
        await desk.pay()
        desk.clock.advance(16)
    assert (await desk.now(command)).issue is Issue.BOUND
