"""APNs against the emulator that others' clients are tested with."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme

from heliograph.domain.devices import PushTarget
from heliograph.ports.push import Accepted, Misconfigured, Outcome, PushMessage, Rejected, RetryLater, Tools, Works
from heliograph.providers.apns import PLUGIN
from heliograph.providers.apns.answers import Verdict
from heliograph.providers.apns.sending import Apns, id_of
from heliograph.providers.transport import Connections
from heliograph_lab.apns import ApnsEmulator, Key
from heliograph_lab.http2 import Authority, GoAway
from heliograph_lab.kernel import Kernel
from tests.lab.apns.conftest import Phone
from tests.providers.credentials import ec_key, p8, pem_of
from tests.providers.samples import NOTIFICATION, WAKE, target
from tests.providers.transport.clock import StandingClock
from tests.support import nginx

TOPIC = "com.example.agent"
MDM_TOPIC = "com.apple.mgmt.External.0d8f1c0e-0000-4000-8000-000000000000"
IDS = {"keyId": "ABC123DEFG", "teamId": "TEAM123456"}
MINUTE = 60


@pytest.fixture
def kernel(tmp_path: Path) -> Any:
    kernel = Kernel(tmp_path / "lab")
    yield kernel
    kernel.close()


@pytest.fixture
def authority(kernel: Kernel) -> Authority:
    return Authority(kernel.state_dir)


@pytest.fixture
async def apns(kernel: Kernel, authority: Authority) -> AsyncIterator[ApnsEmulator]:
    emulator = ApnsEmulator(kernel, authority)
    await emulator.server.start()
    await emulator.tokens.put_keys([Key(key_id=IDS["keyId"], team_id=IDS["teamId"], public_key=p8())])
    yield emulator
    await emulator.stop()


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock(int(time.time()) * 1_000_000)


@pytest.fixture
async def tools(clock: StandingClock) -> AsyncIterator[Tools]:
    connections = Connections(clock)
    yield Tools(clock, connections)
    await connections.close()


class Account:
    """Makes providers that lead to the emulator."""

    def __init__(self, apns: ApnsEmulator, authority: Authority, tools: Tools) -> None:
        self.apns, self.authority, self.tools = apns, authority, tools

    def _built(self, **settings: Any) -> Apns:
        to_lab = {"baseUrl": self.apns.server.url, "ca": self.authority.ca_path.read_text()}
        provider = PLUGIN.build({"environment": "production", **to_lab, **settings}, self.tools)
        assert isinstance(provider, Apns)
        return provider

    def by_key(self, **settings: Any) -> Apns:
        return self._built(**{**IDS, "key": p8(), "topic": TOPIC, **settings})

    def by_certificate(self, topic: str) -> Apns:
        return self._built(certificate=self.authority.client_certificate(uid=topic).decode())


@pytest.fixture
def account(apns: ApnsEmulator, authority: Authority, tools: Tools) -> Account:
    return Account(apns, authority, tools)


@pytest.fixture
def app(account: Account) -> Apns:
    return account.by_key()


@pytest.fixture
async def phone(apns: ApnsEmulator) -> Phone:
    return Phone(apns, await apns.register(TOPIC, "d1/agent"))


async def test_a_topic_that_a_key_has_got_since_its_connection_was_made(
    apns: ApnsEmulator, account: Account, clock: StandingClock
) -> None:
    """Two accounts with one key share a connection, which knows the topics of the time when it was made."""
    key = Key(key_id=IDS["keyId"], team_id=IDS["teamId"], public_key=p8(), topics=[TOPIC])
    await apns.tokens.put_keys([key])
    old, new = account.by_key(), account.by_key(topic="com.example.new")
    assert await old.probe() == Works(f"APNs takes the account for {TOPIC}")
    assert isinstance(await new.probe(), Misconfigured)
    await apns.tokens.put_keys([msgspec.structs.replace(key, topics=[TOPIC, "com.example.new"])])
    assert isinstance(await new.probe(), Misconfigured)  # Apple says so, too
    clock.advance(MINUTE)
    assert await new.probe() == Works("APNs takes the account for com.example.new")
    assert isinstance(await old.probe(), Works)


async def send(app: Apns, phone: Phone, message: PushMessage = WAKE) -> Outcome:
    return await app.send(message, target("apns", phone.token))


def fault(kernel: Kernel, times: int = 1, **action: Any) -> None:
    kernel.faults.replace([{"service": "apns", "action": action, "times": times}])


async def test_pushes_arrive(app: Apns, apns: ApnsEmulator, phone: Phone) -> None:
    await phone.online()
    assert await send(app, phone) == Accepted(id_of(WAKE.id), evidence={"status": 200})
    assert await send(app, phone, NOTIFICATION) == Accepted(id_of(NOTIFICATION.id), evidence={"status": 200})
    wake, alert = await phone.next(), await phone.next()
    assert (wake.push_type, wake.priority, wake.collapse_id) == ("background", 5, "wake")
    assert wake.payload["heliograph"]["commandId"] == WAKE.command_id
    assert (alert.push_type, alert.payload["aps"]["alert"]) == ("alert", {"title": "Hello", "body": "Wörld"})
    assert alert.payload["heliograph"]["data"] == NOTIFICATION.data


async def test_a_wake_waits_for_its_device(app: Apns, phone: Phone) -> None:
    await send(app, phone)
    await phone.online()
    assert (await phone.next()).payload["heliograph"]["id"] == WAKE.id


async def test_by_certificate(account: Account, apns: ApnsEmulator, phone: Phone) -> None:
    await phone.online()
    app = account.by_certificate(TOPIC)
    assert isinstance(await send(app, phone), Accepted)
    assert (await phone.next()).topic == TOPIC
    assert apns.tokens.seen == 0
    assert await app.probe() == Works(f"APNs takes the account for {TOPIC}")


def mdm_target(token: str, topic: str = MDM_TOPIC) -> PushTarget:
    address = json.dumps({"token": token, "pushMagic": "MAGIC 1", "topic": topic})
    return replace(target("apns", address), kind="mdm")


async def test_the_management_client_is_woken_by_certificate_alone(account: Account, apns: ApnsEmulator) -> None:
    phone = Phone(apns, await apns.register(MDM_TOPIC, "d1/mdm"))
    await phone.online()
    mdm = account.by_certificate(MDM_TOPIC)
    assert isinstance(await mdm.send(WAKE, mdm_target(phone.token)), Accepted)
    got = await phone.next()
    assert (got.push_type, got.priority, got.payload) == ("mdm", 10, {"mdm": "MAGIC 1"})
    assert got.collapse_id == "mdm"
    assert got.expiration is not None
    assert await mdm.probe() == Works(f"APNs takes the account for {MDM_TOPIC}")

    before = apns.server.counts.seen
    other = await mdm.send(WAKE, mdm_target(phone.token, f"{MDM_TOPIC}1"))
    assert other == Rejected("the device was enrolled with another MDM push certificate", token_gone=True)
    assert "other account" in _reason(await account.by_key().send(WAKE, mdm_target(phone.token)))
    assert "can be woken" in _reason(await mdm.send(NOTIFICATION, mdm_target(phone.token)))
    assert "an app's address" in _reason(await send(mdm, phone))
    damaged = replace(target("apns", "{}"), kind="mdm")
    assert await mdm.send(WAKE, damaged) == Rejected(
        "this is no address of the management client (MDM)", token_gone=True
    )
    assert apns.server.counts.seen == before


def _reason(outcome: Outcome) -> str:
    assert isinstance(outcome, Rejected)
    assert not outcome.token_gone
    return outcome.reason


@pytest.mark.parametrize("reason", ["Unregistered", "ExpiredToken"])
async def test_a_dead_token_says_since_when(app: Apns, apns: ApnsEmulator, phone: Phone, reason: Any) -> None:
    await apns.end(phone.token, reason)
    device = apns.store.device(phone.token)
    assert device is not None
    assert device.ended_at is not None
    assert await send(app, phone) == Rejected(
        Verdict.GONE, True, device.ended_at * 1000, {"status": 410, "reason": reason}
    )


async def test_tokens_of_others(app: Apns, apns: ApnsEmulator, account: Account, phone: Phone) -> None:
    unknown = await app.send(WAKE, target("apns", "ab" * 32))
    assert unknown == Rejected(Verdict.NOT_OURS, True, evidence={"status": 400, "reason": "BadDeviceToken"})
    elsewhere = await send(account.by_key(topic="com.example.other"), phone)
    assert elsewhere == Rejected(Verdict.NOT_OURS, True, evidence={"status": 400, "reason": "DeviceTokenNotForTopic"})


async def test_accounts_that_apns_does_not_take(account: Account, phone: Phone) -> None:
    def refused(reason: str) -> Misconfigured:
        return Misconfigured(f"{Verdict.ACCOUNT} ({reason})", {"status": 403, "reason": reason})

    for wrong in ({"key": pem_of(ec_key(1))}, {"keyId": "ABC123DEF0"}, {"teamId": "TEAM000000"}):
        app = account.by_key(**wrong)
        assert await send(app, phone) == refused("InvalidProviderToken")
        assert isinstance(await app.probe(), Misconfigured)
    assert isinstance(await account.by_key().probe(), Works)


async def test_a_provider_token_is_renewed_before_it_expires(
    account: Account, apns: ApnsEmulator, phone: Phone, clock: StandingClock
) -> None:
    apns.settings.token_renewal_seconds = 20 * MINUTE
    clock.time -= 100 * 60_000_000  # tokens are judged by the real clock: these are made in the past
    apns.settings.token_seconds = 101 * MINUTE
    app, other = account.by_key(), account.by_key()
    for minutes in range(0, 101, 5):
        assert isinstance(await send(app, phone), Accepted), minutes
        assert isinstance(await send(other, phone), Accepted), minutes
        clock.advance(5 * MINUTE)
    assert apns.tokens.seen == 3  # at 0, 40 and 80 minutes, for both
    assert apns.server.counts.connections == 1


async def test_a_provider_token_that_has_expired_early_is_renewed(
    account: Account, apns: ApnsEmulator, phone: Phone, clock: StandingClock
) -> None:
    clock.time -= 30 * 60_000_000
    app = account.by_key()
    assert isinstance(await send(app, phone), Accepted)
    clock.advance(30 * MINUTE)
    apns.settings.token_seconds = 25 * MINUTE
    assert (
        await asyncio.gather(*(send(app, phone) for _ in range(5)))
        == [Accepted(id_of(WAKE.id), evidence={"status": 200})] * 5
    )
    assert apns.tokens.seen == 2


async def test_a_clock_that_is_wrong_is_told(account: Account, phone: Phone, clock: StandingClock) -> None:
    clock.time -= 70 * 60_000_000
    outcome = await send(account.by_key(), phone)
    assert isinstance(outcome, Misconfigured)
    assert "clock" in outcome.reason


async def test_refusals_for_now(app: Apns, kernel: Kernel, phone: Phone) -> None:
    fault(kernel, status=429, retryAfter=9)
    assert await send(app, phone) == RetryLater(
        Verdict.DEVICE_LIMIT, 9.0, evidence={"status": 429, "reason": "TooManyRequests"}
    )
    fault(kernel, status=429, reason="TooManyProviderTokenUpdates")
    outcome = await send(app, phone)
    assert isinstance(outcome, RetryLater)
    assert outcome.account_wide
    fault(kernel, status=503, retryAfter=2)
    assert await send(app, phone) == RetryLater(
        Verdict.LATER, 2.0, evidence={"status": 503, "reason": "ServiceUnavailable"}
    )


# ---------------------------------------------------------------- faults of connections


async def burst_of(app: Apns, token: str, numbers: Iterable[int]) -> dict[int, Outcome]:
    """A push for each number, all at once."""
    messages = {number: PushMessage(f"{number:024x}", "wake", 600, command_id="c" * 24) for number in numbers}
    sends = (app.send(message, target("apns", token)) for message in messages.values())
    return dict(zip(messages, await asyncio.gather(*sends), strict=True))


async def burst(app: Apns, token: str, count: int) -> Counter[str]:
    """So many different pushes at once, by what became of them."""
    return Counter(named(outcome) for outcome in (await burst_of(app, token, range(count))).values())


def named(outcome: Outcome) -> str:
    return (
        f"uncertain: {outcome.reason}"
        if isinstance(outcome, RetryLater) and outcome.uncertain
        else type(outcome).__name__
    )


@pytest.mark.parametrize("graceful", [True, False])
async def test_connections_that_end_in_order_cost_nothing_and_double_nothing(
    app: Apns, apns: ApnsEmulator, phone: Phone, graceful: bool
) -> None:
    apns.server.plan = GoAway(after=100, graceful=graceful, below=0 if graceful else 20)
    counts, waiting, rounds = apns.server.counts, set(range(1000)), 0
    while waiting:
        outcomes = await burst_of(app, phone.token, waiting)
        waiting = {number for number, outcome in outcomes.items() if not isinstance(outcome, Accepted)}
        # Some meet the end of four connections in turn, or that of one on which they were just being written: more of
        # them where the machine is slow. They are put off, were not processed, and arrive when they are sent again.
        assert {named(outcomes[number]) for number in waiting} <= {"RetryLater", "uncertain: the connection was lost"}
        assert len(counts.processed_by_id) == 1000 - len(waiting)
        rounds += 1
        assert rounds < 10, f"{len(waiting)} are put off again and again"
    assert counts.goaways >= 5
    assert counts.duplicates() == {}


@pytest.mark.parametrize("action", [{"goAway": {"code": "NO_ERROR"}}, {"reset": "REFUSED_STREAM"}])
async def test_what_was_surely_not_processed_is_sent_again_at_once(
    app: Apns, apns: ApnsEmulator, kernel: Kernel, phone: Phone, action: dict[str, Any]
) -> None:
    await send(app, phone, NOTIFICATION)
    fault(kernel, **action)
    assert await burst(app, phone.token, 50) == {"Accepted": 50}
    assert apns.server.counts.duplicates() == {}


@pytest.mark.parametrize(
    ("action", "reason"),
    [({"reset": "INTERNAL_ERROR"}, "the server ended the stream"), ({"cut": "before"}, "the connection was lost")],
)
async def test_what_cannot_be_told_is_uncertain_and_not_sent_again_at_once(
    app: Apns, apns: ApnsEmulator, kernel: Kernel, phone: Phone, action: dict[str, Any], reason: str
) -> None:
    fault(kernel, **action)
    outcome = await send(app, phone)
    assert isinstance(outcome, RetryLater)
    assert (outcome.reason, outcome.uncertain) == (reason, True)
    assert apns.server.counts.processed == 0
    assert isinstance(await send(app, phone), Accepted)


async def test_a_cut_after_processing_doubles_and_both_have_one_id(
    app: Apns, apns: ApnsEmulator, kernel: Kernel, phone: Phone
) -> None:
    await phone.online()
    fault(kernel, cut="after")
    outcome = await send(app, phone)
    assert isinstance(outcome, RetryLater)
    assert outcome.uncertain
    assert isinstance(await send(app, phone), Accepted)
    assert apns.server.counts.duplicates() == {id_of(WAKE.id): 2}
    # The agent drops the second: it is the same push.
    first, second = await phone.next(), await phone.next()
    assert (first.id, first.payload) == (second.id, second.payload)


async def test_silence_is_uncertain(app: Apns, kernel: Kernel, phone: Phone) -> None:
    await send(app, phone)
    fault(kernel, silence=True)
    app._timeout_s = 0.3
    outcome = await send(app, phone)
    assert isinstance(outcome, RetryLater)
    assert (outcome.reason, outcome.uncertain) == ("no answer in time", True)


async def test_5000_pushes_over_a_goaway_each_1000_arrive_and_none_is_ambiguous(tmp_path: Path, tools: Tools) -> None:
    ca = trustme.CA()
    home = tmp_path / "nginx"
    home.mkdir()
    with nginx.running(home, ca, requests=1000) as server:
        settings = {**IDS, "key": p8(), "topic": TOPIC, "environment": "production"}
        app = PLUGIN.build({**settings, "baseUrl": server.url, "ca": server.ca_pem.decode()}, tools)
        assert isinstance(app, Apns)
        app._timeout_s = 60.0
        outcomes = await burst(app, "ab" * 32, 5000)
        await app.close()
    arrivals = server.arrivals()
    connections = Counter(arrival.connection for arrival in arrivals)
    print(f"\n{outcomes}, arrived {len(arrivals)}, connections {len(connections)}")
    assert outcomes == {"Accepted": 5000}
    assert Counter(a.id for a in arrivals) == dict.fromkeys((id_of(f"{number:024x}") for number in range(5000)), 1)
    assert max(connections.values()) <= 1000


async def test_the_largest_body_is_taken(app: Apns, phone: Phone) -> None:
    def sized(characters: int) -> PushMessage:
        return PushMessage("a" * 24, "silent", 60, data={"x": "y" * characters})

    most = max(size for size in range(3500, 4097) if PLUGIN.check(sized(size)) is None)
    assert isinstance(await send(app, phone, sized(most)), Accepted)
    assert await send(app, phone, sized(most + 1)) == Rejected(
        Verdict.REJECTED, evidence={"status": 413, "reason": "PayloadTooLarge"}
    )
