"""What an agent is told, and what its word is worth."""

from __future__ import annotations

import pytest

from heliograph.app.agent_line import check_in, open_offers, register_agent
from heliograph.app.cancel_command import cancel_command
from heliograph.app.setup import add_device
from heliograph.domain.devices import PLATFORMS
from heliograph.domain.errors import InvalidInput, NotPending
from heliograph.domain.ladder import Reason, Rung
from heliograph_protocol.messages import CancelAnswer, CheckIn, PushAck, Register, Report, ReportError, Target
from tests.app.conftest import Desk

AT = "2026-01-01T00:00:00Z"


async def claimed(desk: Desk, command: str = "LOCK", **params: object) -> str:
    stored = await desk.command({"command": command, "params": params})
    await desk.pay()
    orders = await check_in(desk.services, desk.aosp, "mdmAgent", CheckIn(seq=1, claim=8))
    assert stored.id in [c.id for c in orders.commands]
    return stored.id


def report(command_id: str, rung: str, code: str | None = None) -> CheckIn:
    error = None if code is None else ReportError(code=code)
    return CheckIn(seq=2, reports=[Report(command_id=command_id, rung=rung, at=AT, error=error)])  # type: ignore[arg-type]


async def test_a_command_is_offered_claimed_reported_and_done(desk: Desk) -> None:
    command = await desk.command({"command": "REBOOT"})
    assert await desk.pay() == ["push"]
    offers = await open_offers(desk.services, desk.aosp, "mdmAgent")
    assert [p.command_id for p in offers.pushes] == [command.id]
    assert offers.waiting
    taken = CheckIn(seq=7, claim=8, push_acks=[PushAck(id=offers.pushes[0].id, at=AT)])
    orders = await check_in(desk.services, desk.aosp, "mdmAgent", taken)
    assert (orders.seq, [c.type for c in orders.commands]) == (7, ["REBOOT"])
    for rung in ("acknowledged", "running", "succeeded"):
        await check_in(desk.services, desk.aosp, "mdmAgent", report(command.id, rung))
    assert (await desk.now(command)).rung is Rung.SUCCEEDED
    assert (await open_offers(desk.services, desk.aosp, "mdmAgent")).pushes == []


async def test_a_claimed_command_is_handed_out_again_until_it_is_acknowledged(desk: Desk) -> None:
    command_id = await claimed(desk)
    again = await check_in(desk.services, desk.aosp, "mdmAgent", CheckIn(seq=3, claim=8))
    assert [c.id for c in again.commands] == [command_id]
    await check_in(desk.services, desk.aosp, "mdmAgent", report(command_id, "acknowledged"))
    after = await check_in(desk.services, desk.aosp, "mdmAgent", CheckIn(seq=4, claim=8))
    assert after.commands == []


async def test_an_android_agent_never_gets_googles_commands(desk: Desk) -> None:
    command = await desk.command({"type": "LOCK"})
    await desk.pay("issue")
    orders = await check_in(desk.services, desk.android, "mdmAgent", CheckIn(seq=1, claim=8))
    assert orders.commands == []
    assert not (await open_offers(desk.services, desk.android, "mdmAgent")).waiting
    await check_in(desk.services, desk.android, "mdmAgent", report(command.id, "succeeded"))
    assert (await desk.now(command)).rung is Rung.ISSUED


async def test_only_the_app_that_runs_commands_gets_them(desk: Desk) -> None:
    await desk.command({"command": "LOCK"})
    orders = await check_in(desk.services, desk.aosp, "kioskLauncher", CheckIn(seq=1, claim=8))
    assert orders.commands == []


async def test_another_devices_command_cannot_be_reported(desk: Desk) -> None:
    command_id = await claimed(desk)
    await check_in(desk.services, desk.android, "mdmAgent", report(command_id, "succeeded"))
    found = await desk.work.commands.find(command_id)
    assert found is not None
    assert found.rung is Rung.DELIVERED


async def test_before_the_claim_cancel_wins_and_nothing_can_be_claimed(desk: Desk) -> None:
    command = await desk.command({"command": "LOCK"})
    await desk.pay()
    after = await cancel_command(desk.services, desk.work, command.id, desk.aosp.id, "key:x", "over")
    assert after.rung is Rung.CANCELLED
    orders = await check_in(desk.services, desk.aosp, "mdmAgent", CheckIn(seq=1, claim=8))
    assert orders.commands == []
    assert await desk.pay() == ["revoke"]


async def test_after_the_claim_the_agents_word_decides(desk: Desk) -> None:
    command_id = await claimed(desk)
    open_still = await cancel_command(desk.services, desk.work, command_id, desk.aosp.id, "key:x", "over")
    assert open_still.rung is Rung.DELIVERED
    assert (await open_offers(desk.services, desk.aosp, "mdmAgent")).cancels == [command_id]
    confirmed = CheckIn(seq=2, cancel_answers=[CancelAnswer(command_id=command_id, outcome="confirmed", at=AT)])
    await check_in(desk.services, desk.aosp, "mdmAgent", confirmed)
    with pytest.raises(NotPending, match="over"):
        await cancel_command(desk.services, desk.work, command_id, desk.aosp.id, "key:x", "over")


async def test_a_rejected_cancel_is_not_asked_again(desk: Desk) -> None:
    command_id = await claimed(desk)
    await cancel_command(desk.services, desk.work, command_id, desk.aosp.id, "key:x", "over")
    rejected = CheckIn(seq=2, cancel_answers=[CancelAnswer(command_id=command_id, outcome="rejected", at=AT)])
    orders = await check_in(desk.services, desk.aosp, "mdmAgent", rejected)
    assert orders.cancels == []
    before = await desk.work.commands.find(command_id)
    await check_in(desk.services, desk.aosp, "mdmAgent", rejected)
    assert await desk.work.commands.find(command_id) == before


async def test_a_cancel_that_crossed_a_deferral_counts_after_it(desk: Desk) -> None:
    command_id = await claimed(desk)
    await cancel_command(desk.services, desk.work, command_id, desk.aosp.id, "key:x", "over")
    await check_in(desk.services, desk.aosp, "mdmAgent", report(command_id, "running"))
    deferral = Report(command_id=command_id, rung="deferred", at=AT)
    answer = CancelAnswer(command_id=command_id, outcome="confirmed", at=AT)
    await check_in(desk.services, desk.aosp, "mdmAgent", CheckIn(seq=3, reports=[deferral], cancel_answers=[answer]))
    found = await desk.work.commands.find(command_id)
    assert found is not None
    assert found.rung is Rung.CANCELLED


@pytest.mark.parametrize("late", ["acknowledged", "running", "deferred"])
async def test_what_is_heard_late_or_twice_does_not_keep_what_was_put_off_from_the_device(
    desk: Desk, late: str
) -> None:
    """A process that stood still reads what the agent has told another one since."""
    command_id = await claimed(desk)
    for rung in ("acknowledged", "running", "deferred", late):
        await check_in(desk.services, desk.aosp, "mdmAgent", report(command_id, rung))
    desk.clock.advance(60)
    orders = await check_in(desk.services, desk.aosp, "mdmAgent", CheckIn(seq=3, claim=1))
    assert [command.id for command in orders.commands] == [command_id]


async def test_what_was_put_off_and_has_begun_again_rejects_a_cancel_once(desk: Desk) -> None:
    command_id = await claimed(desk)
    await check_in(desk.services, desk.aosp, "mdmAgent", report(command_id, "deferred"))
    await cancel_command(desk.services, desk.work, command_id, desk.aosp.id, "key:x", "over")
    rejected = CheckIn(seq=2, cancel_answers=[CancelAnswer(command_id=command_id, outcome="rejected", at=AT)])
    assert (await check_in(desk.services, desk.aosp, "mdmAgent", rejected)).cancels == []
    found = await desk.work.commands.find(command_id)
    assert found is not None
    assert found.rung is Rung.RUNNING


async def test_a_cancel_that_nobody_asked_for_cancels_nothing(desk: Desk) -> None:
    command_id = await claimed(desk)
    confirmed = CheckIn(seq=2, cancel_answers=[CancelAnswer(command_id=command_id, outcome="confirmed", at=AT)])
    await check_in(desk.services, desk.aosp, "mdmAgent", confirmed)
    found = await desk.work.commands.find(command_id)
    assert found is not None
    assert found.rung is Rung.DELIVERED


@pytest.mark.parametrize(
    ("code", "rung"),
    [
        ("BROKEN", Rung.FAILED),
        ("OUTCOME_UNKNOWN", Rung.FAILED),
        ("EXPIRED_BEFORE_START", Rung.EXPIRED_RUNNING),
    ],
)
async def test_a_failure_says_what_it_proves(desk: Desk, code: str, rung: Rung) -> None:
    command_id = await claimed(desk)
    await check_in(desk.services, desk.aosp, "mdmAgent", report(command_id, "failed", code))
    found = await desk.work.commands.find(command_id)
    assert found is not None
    assert found.rung is rung


@pytest.mark.parametrize(
    "code", ["OUTCOME_UNKNOWN", "EFFECTOR_ERROR", "JOURNAL_DAMAGED", "EXPIRED_BEFORE_START", "BROKEN"]
)
async def test_a_failure_of_what_was_never_claimed_ends_nothing(desk: Desk, code: str) -> None:
    stored = await desk.command({"command": "LOCK"})
    await desk.pay()
    for _ in range(2):
        await check_in(desk.services, desk.aosp, "mdmAgent", report(stored.id, "failed", code))
    after = await desk.now(stored)
    assert (after.rung, after.reason) == (Rung.ISSUED, None)
    assert [e.evidence["contradicts"] for e in await desk.history(stored) if "contradicts" in e.evidence] == [
        "expired" if code == "EXPIRED_BEFORE_START" else "failed"
    ]
    # It is still to be had, and once claimed the same words count.
    orders = await check_in(desk.services, desk.aosp, "mdmAgent", CheckIn(seq=1, claim=8))
    assert [c.id for c in orders.commands] == [stored.id]
    await check_in(desk.services, desk.aosp, "mdmAgent", report(stored.id, "failed", code))
    assert (await desk.now(stored)).is_over


async def test_what_an_agent_writes_gives_no_secret_away(desk: Desk) -> None:
    params = {"newPassword": "canary", "wifi": {"pre_shared_key": "canary-2"}, "ssid": "shown"}
    stored = await desk.command({"command": "RESET_PASSWORD", "params": params})
    assert (stored.params["wifi"], stored.params["ssid"]) == ({}, "shown")
    await check_in(desk.services, desk.aosp, "mdmAgent", CheckIn(seq=1, claim=8))
    error = ReportError(code="CANARY", message="wifi refused canary-2 and canary")
    detail = {"access-token": "t", "tried": ["canary-2", {"canary": 1}], "attempts": 3}
    words = Report(command_id=stored.id, rung="failed", at=AT, error=error, detail=detail)
    await check_in(desk.services, desk.aosp, "mdmAgent", CheckIn(seq=2, reports=[words]))
    after = await desk.now(stored)
    assert (after.rung, after.reason) == (Rung.FAILED, Reason("CANARY", "wifi refused … and …"))
    kept = (await desk.history(stored))[-1].evidence["detail"]
    assert kept == {"tried": ["…", {"…": 1}], "attempts": 3}


async def test_a_detail_as_deep_as_can_be_is_no_fault(desk: Desk) -> None:
    stored = await desk.command({"command": "LOCK"})
    await check_in(desk.services, desk.aosp, "mdmAgent", CheckIn(seq=1, claim=8))
    detail: dict[str, object] = {}
    for _ in range(900):
        detail = {"a": detail}
    words = Report(command_id=stored.id, rung="running", at=AT, detail=detail)
    await check_in(desk.services, desk.aosp, "mdmAgent", CheckIn(seq=2, reports=[words]))
    assert (await desk.now(stored)).rung is Rung.RUNNING


@pytest.mark.parametrize("token", ["/topics/all-devices", "", "a b", "a1\n", "a" * 257])
async def test_an_address_of_many_devices_is_no_address_of_one(token: str, desk: Desk) -> None:
    targets = [Target(provider="builtin"), Target(provider="pushy", token=token)]
    with pytest.raises(InvalidInput):
        await register_agent(desk.services, desk.aosp, Register(app="mdmAgent", agent_version="1", targets=targets))
    good = [targets[0], Target(provider="pushy", token="0123abcDEF")]
    await register_agent(desk.services, desk.aosp, Register(app="mdmAgent", agent_version="1", targets=good))


APNS = Target(provider="apns", token="0123456789abcdef" * 4)
FCM = Target(provider="fcm", token="dQw4w9WgXcQ0123456789a:APA91b" + "x" * 128)
WNS = Target(provider="wns", token="https://wns2-par02p.notify.windows.com/?token=AwYAAAD8sfbDrL9h")
REACHED = {"apns": ("ios", "macos"), "fcm": ("android", "aosp"), "wns": ("windows",)}


@pytest.mark.parametrize("address", [APNS, FCM, WNS], ids=lambda address: address.provider)
@pytest.mark.parametrize("platform", PLATFORMS)
async def test_an_address_of_another_platform_is_refused(address: Target, platform: str, desk: Desk) -> None:
    """With the reason; what was registered before stays."""
    more = {"externalName": "enterprises/LC0test/devices/another"} if platform == "android" else {}
    device, _ = await add_device(desk.services, desk.organization, {"platform": platform, **more})
    ours = Target(provider="builtin")

    async def register(*targets: Target) -> set[str]:
        await register_agent(desk.services, device, Register(app="mdmAgent", agent_version="1", targets=[*targets]))
        return {target.provider for target in await desk.work.devices.targets(device.id)}

    assert await register(ours) == {"builtin"}
    if platform in REACHED[address.provider]:
        assert await register(ours, address) == {"builtin", address.provider}
        return
    with pytest.raises(InvalidInput, match=f"targets: {address.provider} does not reach {platform} devices"):
        await register(ours, address)
    assert {target.provider for target in await desk.work.devices.targets(device.id)} == {"builtin"}


async def test_a_secret_goes_out_with_the_claim_and_leaves_with_the_result(desk: Desk) -> None:
    stored = await desk.command({"command": "RESET_PASSWORD", "params": {"newPassword": "canary"}})
    assert stored.params == {}
    assert stored.secret is not None
    assert b"canary" not in stored.secret
    orders = await check_in(desk.services, desk.aosp, "mdmAgent", CheckIn(seq=1, claim=1))
    assert orders.commands[0].params == {"newPassword": "canary"}
    for rung, kept in (("acknowledged", True), ("succeeded", False)):
        await check_in(desk.services, desk.aosp, "mdmAgent", report(stored.id, rung))
        assert ((await desk.now(stored)).secret is not None) == kept


async def test_what_is_too_old_is_not_handed_out(desk: Desk) -> None:
    await desk.command({"command": "LOCK", "duration": 5})
    desk.clock.advance(6)
    orders = await check_in(desk.services, desk.aosp, "mdmAgent", CheckIn(seq=1, claim=8))
    assert orders.commands == []


async def test_a_message_never_outgrows_the_line(desk: Desk) -> None:
    for _ in range(4):
        await desk.command({"command": "LOCK", "params": {"note": "x" * 60_000}})
    orders = await check_in(desk.services, desk.aosp, "mdmAgent", CheckIn(seq=1, claim=8))
    assert len(orders.commands) == 1
    assert orders.more
