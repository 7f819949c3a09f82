"""The recorder against the lab: it finds exactly what the emulator was told to do, and does no more than it says."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.channels.google import account, pem
from tests.lab.pubsub.rig import SUBSCRIPTION as PULLED
from tests.lab.pubsub.rig import TOPIC
from tests.lab.pubsub.world import GRANT, World, lab
from tests.live.questions import QUESTIONS, UNASKED
from tests.live.recorder import SETTINGS, record
from tests.live.session import Patience
from tests.live.target import ALLOWABLE, CannotAskError, Target

ENTERPRISE = "enterprises/LC0recorded"
DEVICE = f"{ENTERPRISE}/devices/0f3c8a11sacrificed"
GONE = f"{ENTERPRISE}/devices/77aa0091gone"
EMAIL = "recorder@secret-project.iam.gserviceaccount.com"
# Nothing in them is a default, and each answer to a cancel occurs.
STRANGE = {
    "amapi": {
        "expiryCode": 13,
        "expiryMessage": "Too late.",
        "cancelDelay": 7.25,
        "cancelFinished": "400",
        "cancelExpired": "403",
        "cancelUnknown": "501",
        "cancelForeign": "404",
        "echoNewPassword": True,
        "successResponse": False,
        "unmanagedStatus": 410,
        "quotaLimit": 60,
        "quotaRetryAfter": 3,
        "defaultDuration": 1200.0,
        "devicesPage": 2,
        "devicesPageMax": 3,
        "operationsPage": 3,
        "operationsPageMax": 4,
        "requireToken": False,
    },
    "pubsub": {"cancelled": False, "expired": False},
}
MIXED = {
    "amapi": {
        "expiryCode": None,
        "cancelDelay": 0.0,
        "cancelFinished": "404",
        "cancelExpired": "501",
        "cancelForeign": "ok",
        "devicesPageMax": 4,
    },
    "pubsub": {"cancelled": True, "expired": False},
}
PLAIN: dict[str, Any] = {}
WITHOUT_QUOTA = {"allow": frozenset({"reset-password"})}  # which is none by default, so all would be sent
SOON = Patience(outcome=120, device=300, silence=60)


class Bench:
    """The lab around a recorder: its clock moves instead of time passing, and switching the device is a call."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.lines: list[str] = []

    def now(self) -> float:
        return self.world.lab.kernel.clock.now().timestamp()

    async def sleep(self, seconds: float) -> None:
        await self.world.lab.kernel.clock.advance(seconds)

    async def switch(self, *, on: bool) -> None:
        await self.world.control("PUT", "/devices/phone", {"online": on})

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment of whoever runs the tests is no part of them."""
    monkeypatch.setenv("NO_PROXY", "*")


def phone(device_id: str, name: str) -> dict[str, Any]:
    return {
        "deviceId": device_id,
        "name": device_id,
        "platform": "android",
        "serialNumber": f"SERIAL-{device_id}",
        "amapi": {"name": name, "apiLevel": 36},
    }


async def furnish(world: World, settings: dict[str, Any]) -> Bench:
    """An enterprise that tells on a topic with a subscription; a phone to ask, one that was deleted, and four more."""
    await world.pubsub.set_up()
    await world.pubsub.ask("POST", f"{TOPIC}:setIamPolicy", {"policy": GRANT})
    others = [phone(f"other{n}", f"{ENTERPRISE}/devices/other{n}") for n in range(4)]
    await world.control("PUT", "/fleet", [phone("phone", DEVICE), phone("gone", GONE), *others])
    await world.google("PATCH", ENTERPRISE, {"pubsubTopic": TOPIC, "enabledNotificationTypes": ["COMMAND"]})
    await world.google("DELETE", GONE)
    await world.control("PUT", "/settings", settings)
    return Bench(world)


def target(world: World, **changes: Any) -> Target:
    urls = world.lab.urls
    given: dict[str, Any] = {
        "account": account(f"{urls['amapiUrl']}/token", client_email=EMAIL, project_id="secret-project"),
        "enterprise": ENTERPRISE,
        "device": DEVICE,
        "subscription": PULLED,
        "gone_device": GONE,
        "allow": frozenset(ALLOWABLE),
        "amapi_url": urls["amapiUrl"],
        "pubsub_url": urls["pubsubUrl"],
    }
    return Target(**given | changes)


async def recorded(directory: Path, settings: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The recording of a fresh lab with these settings, as it is on disk."""
    path = directory / "recording.json"
    async with lab(directory / "lab") as world:
        bench = await furnish(world, settings)
        await record(target(world, **changes), bench, path, SOON)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def without_delay(recording: dict[str, Any]) -> dict[str, Any]:
    """The settings but the one that is measured, and so is only near the truth."""
    amapi = {name: value for name, value in recording["settings"]["amapi"].items() if name != "cancelDelay"}
    return {**recording["settings"], "amapi": amapi}


@pytest.mark.parametrize(
    ("settings", "changes"),
    [(STRANGE, {}), (MIXED, WITHOUT_QUOTA), (PLAIN, WITHOUT_QUOTA)],
    ids=["strange", "mixed", "plain"],
)
async def test_the_recording_says_what_the_emulator_was_told(
    tmp_path: Path, settings: dict[str, Any], changes: dict[str, Any]
) -> None:
    first = await recorded(tmp_path / "first", settings, **changes)
    async with lab(tmp_path / "shown") as world:
        told = await world.control("PUT", "/settings", settings)
    learnt = first["settings"]
    for service, members in without_delay(first).items():
        assert members == {name: told[service][name] for name in members}
    low, high = first["measured"]["amapi.cancelDelay"]
    assert low <= told["amapi"]["cancelDelay"] <= high == learnt["amapi"]["cancelDelay"]
    named = {f"{service}.{name}" for service, members in settings.items() for name in members}
    assert named & set(first["notLearnt"]) == set()
    answered = [f"{service}.{name}" for service, members in learnt.items() for name in members]
    assert sorted([*answered, *first["notLearnt"]]) == sorted(SETTINGS)
    second = await recorded(tmp_path / "second", learnt, **changes)  # put into a fresh lab as it is
    assert without_delay(second) == without_delay(first)
    assert second["notLearnt"].keys() == first["notLearnt"].keys()
    assert second["differs"] == first["differs"] == []


async def test_what_is_asked_is_harmless_and_what_is_kept_is_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "recording.json"
    async with lab(tmp_path / "lab") as world:
        bench = await furnish(world, {"amapi": {"echoNewPassword": True}})
        before = len((await world.control("GET", "/requests?service=amapi"))["items"])
        await record(target(world, **WITHOUT_QUOTA), bench, path, SOON)
        asked = (await world.control("GET", "/requests?service=amapi"))["items"][before:]
    bodies = [json.loads(item["body"]) for item in asked if item["path"].endswith(":issueCommand")]
    assert {body["type"] for body in bodies} == {"LOCK", "RESET_PASSWORD"}
    verbs = {(item["method"], item["path"].rpartition(":")[2]) for item in asked if item["method"] != "GET"}
    assert verbs == {("POST", "/token"), ("POST", "issueCommand"), ("POST", "cancel")}
    (password,) = [body["newPassword"] for body in bodies if "newPassword" in body]
    tokens = {item["headers"]["authorization"].split()[1] for item in asked if "authorization" in item["headers"]}
    names = {ENTERPRISE, DEVICE.rpartition("/")[2], GONE.rpartition("/")[2], "secret-project", EMAIL, PULLED, "SERIAL"}
    kept = path.read_text() + "".join(bench.lines)
    assert [secret for secret in {password, *tokens, *names, *pem().splitlines()} if secret in kept] == []
    assert '"newPassword": "SECRET"' in kept


async def test_a_password_is_touched_by_nobody_who_was_not_allowed_to(tmp_path: Path) -> None:
    path = tmp_path / "recording.json"
    async with lab(tmp_path / "lab") as world:
        bench = await furnish(world, PLAIN)
        given = target(world, allow=frozenset(), subscription=None, gone_device=None)
        recording = await record(given, bench, path, SOON)
        asked = (await world.control("GET", "/requests?service=amapi"))["items"]
        journal = (await world.control("GET", "/devices/phone/journal"))["items"]
    assert "RESET_PASSWORD" not in "".join(item["body"] or "" for item in asked)
    assert [item["type"] for item in journal if item["event"] == "executed"] == ["LOCK"]
    needs = {"echoNewPassword": "LIVE_ALLOW", "quotaLimit": "LIVE_ALLOW", "unmanagedStatus": "LIVE_GONE_DEVICE"}
    assert {name: word in recording["notLearnt"][f"amapi.{name}"] for name, word in needs.items()} == dict.fromkeys(
        needs, True
    )
    assert "LIVE_SUBSCRIPTION" in recording["notLearnt"]["pubsub.cancelled"]


async def test_a_device_that_is_on_teaches_nothing_wrong(tmp_path: Path) -> None:
    class AlwaysOn(Bench):
        async def switch(self, *, on: bool) -> None:
            await super().switch(on=True)

    async with lab(tmp_path / "lab") as world:
        await furnish(world, {})
        recording = await record(target(world, **WITHOUT_QUOTA), AlwaysOn(world), tmp_path / "r.json", SOON)
    off = {"amapi.cancelDelay", "amapi.expiryCode", "amapi.cancelExpired", "pubsub.cancelled", "pubsub.expired"}
    assert off <= recording["notLearnt"].keys()
    assert "is the device off?" in recording["notLearnt"]["amapi.expiryCode"]
    assert recording["settings"]["amapi"]["cancelFinished"] == "ok"


async def test_silence_says_nothing_where_nothing_is_ever_told(tmp_path: Path) -> None:
    async with lab(tmp_path / "lab") as world:
        bench = await furnish(world, {})
        await world.control("PUT", "/notifications/rules", [{"action": {"drop": True}}])
        recording = await record(target(world, **WITHOUT_QUOTA), bench, tmp_path / "r.json", SOON)
    assert "silence says nothing" in recording["notLearnt"]["pubsub.expired"]
    assert "pubsub" not in recording["settings"]


async def test_an_end_half_way_keeps_what_is_known_and_leaves_nothing_open(tmp_path: Path) -> None:
    path = tmp_path / "recording.json"

    class Interrupted(Bench):
        async def sleep(self, seconds: float) -> None:
            if seconds == 60:  # the expiry is being waited for
                raise asyncio.CancelledError
            await super().sleep(seconds)

    async with lab(tmp_path / "lab") as world:
        await furnish(world, {})
        with pytest.raises(asyncio.CancelledError):
            await record(target(world), Interrupted(world), path, SOON)
        await world.lab.kernel.clock.advance(1)
        operations = (await world.google("GET", f"{DEVICE}/operations"))["operations"]
    recording = json.loads(path.read_text())
    assert recording["settings"]["amapi"]["cancelFinished"] == "ok"
    assert recording["notLearnt"]["amapi.expiryCode"] == "the recording ended before it was asked"
    assert [operation["error"]["code"] for operation in operations] == [1, 1, 1]


@pytest.mark.parametrize("changes", [{"enterprise": "enterprises/LC0nobodys"}, {"device": f"{ENTERPRISE}/devices/no"}])
async def test_where_there_is_nothing_to_ask_nothing_is_done(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "recording.json"
    async with lab(tmp_path / "lab") as world:
        bench = await furnish(world, {})
        with pytest.raises(CannotAskError, match="cannot be read: Google answers 40"):
            await record(target(world, **changes), bench, path)
        asked = (await world.control("GET", "/requests?service=amapi"))["items"]
    assert [item["path"] for item in asked if item["path"].endswith((":issueCommand", ":cancel"))] == []
    assert not path.exists()


def test_every_setting_has_a_question_or_a_reason() -> None:
    asked = {setting for question in QUESTIONS for setting in question.settings}
    assert asked | UNASKED.keys() == set(SETTINGS)
    assert asked & UNASKED.keys() == set()
