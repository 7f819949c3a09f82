"""WNS on the wire: what is sent, where access tokens go, and what each answer means."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import msgspec
import pytest

from heliograph.domain.errors import InvalidInput
from heliograph.domain.fields import Fields
from heliograph.ports.push import (
    Accepted,
    CannotTell,
    CannotWithdraw,
    Misconfigured,
    Outcome,
    PushMessage,
    Rejected,
    RetryLater,
    Unavailable,
    Works,
)
from heliograph.providers import wns
from heliograph.providers.wns.answers import Verdict, verdict_on
from heliograph.providers.wns.client import MAX_LIFE_S, Wns, body_of, channel_fault
from heliograph_protocol.messages import PushOffer
from tests.providers.samples import NOTIFICATION, SILENT, WAKE, Contract, target
from tests.support.wire import Action, Answer, Hang, Raw, Seen, Wire, closed_port, json_answer

SID = "ms-app://s-1-15-2-1234567890-2345678901-3456789012-456789012-567890123-678901234-789012345"
SECRET, BEARER, CHANNEL = "canary0SECRET19", "canary0BEARER20", "canary0CHANNEL21"
ENTRA = {"tenantId": "11111111-2222-3333-4444-555555555555", "clientId": "66666666-7777-8888-9999-000000000000"}
STORE_PATH = "/accesstoken.srf"
LOW, HIGH = "a" * 24, "\uffff\x0b<&>\"']]>"


def contract(url: str) -> Contract:
    host = urlsplit(url).netloc
    return Contract(
        {"packageSid": SID, "clientSecret": SECRET, "loginUrl": url, "channelHosts": host},
        [SECRET, BEARER, CHANNEL],
        f"{url}/?token={CHANNEL}",
        wrong=WRONG,
        bad_tokens=BAD_TOKENS,
        grants={STORE_PATH: msgspec.json.encode({"access_token": BEARER, "expires_in": 86400})},
    )


KEPT = {"clientSecret": SECRET}
WRONG: list[dict[str, Any]] = [
    {},
    KEPT,
    {"packageSid": SID},
    {"packageSid": "s-1-15-2-1", **KEPT},
    {"packageSid": SID, **ENTRA, **KEPT},
    {"tenantId": ENTRA["tenantId"], **KEPT},
    {"tenantId": "a/../b", "clientId": "c", **KEPT},
    {"tenantId": "..", "clientId": "c", **KEPT},
    {"packageSid": SID, "clientSecret": "with space"},
    {"packageSid": SID, "clientSecret": "line\nbreak"},
    {"packageSid": SID, **KEPT, "loginUrl": "login.live.com"},
    {"packageSid": SID, **KEPT, "loginUrl": "https://u:p@login.live.com"},
    {"packageSid": SID, **KEPT, "channelHosts": "notify.example:443"},
    {"packageSid": SID, **KEPT, "channelHosts": "127.0.0.1"},
    {"packageSid": SID, **KEPT, "channelHosts": "/"},
    {"packageSid": SID, **KEPT, "channelHosts": ["127.0.0.1:80", "evil.example:443"]},
    {"packageSid": SID, **KEPT, "channelHosts": [5]},
    {"packageSid": SID, **KEPT, "channelHosts": {"127.0.0.1:80": 1}},
    {"packageSid": SID, **KEPT, "other": 1},
]
GOOD_TOKENS = [
    "https://db5.notify.windows.com/?token=AwYAAAC%2bx",
    "https://wns2-by3p.notify.windows.com/?token=A",
    "https://WNS2.Notify.Windows.com:443/w/?token=A",
    "https://db5.notify.windows.com?token=A",
]
BAD_TOKENS = [
    "http://db5.notify.windows.com/?token=A",
    "https://db5.notify.windows.com:8443/?token=A",
    "https://notify.windows.com/?token=A",
    "https://evilnotify.windows.com/?token=A",
    "https://db5.notify.windows.com.evil.example/?token=A",
    "https://evil.example/?token=.notify.windows.com",
    "https://evil.example/#.notify.windows.com",
    "https://evil.example#.notify.windows.com/",
    "https://evil.example\\.notify.windows.com/",
    "https://evil.example/.notify.windows.com/",
    "https://db5.notify.windows.com@evil.example/",
    "https://user:pass@db5.notify.windows.com/",
    "https://db5.notify.windows.com:443@evil.example/",
    "https://xn--.evil.example:443/",
    "https://evil.example%2f.notify.windows.com/",
    "https://dß5.notify.windows.com/",
    "https://169.254.169.254/",
    "http://10.0.0.1:80/",
    "http://127.0.0.1/",
    "http://127.0.0.1:80.evil.example/",
    "http://localhost.evil.example:80/",
    "ftp://db5.notify.windows.com/",
    "file:///etc/passwd",
    "db5.notify.windows.com",
    "https://db5.notify.windows.com/\r\nX-A: b",
    f"https://db5.notify.windows.com/?token={'x' * 2048}",
]


class ManualClock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.us = 1_700_000_000_000_000

    def now(self) -> int:
        return self.us

    def elapsed(self) -> int:
        return self.us

    def advance(self, seconds: float) -> None:
        self.us += int(seconds * 1_000_000)


class Service(Wire):
    """A token service that gives `canary0BEARER20`, then others; and the channels, which answer as told."""

    def __init__(self) -> None:
        super().__init__()
        self.logins: list[Action] = []
        self.pushes: list[Action] = []
        self.life: Any = 86400
        self.handler = self._answer

    def _answer(self, seen: Seen) -> Action:
        if seen.path == "/":
            return self.pushes.pop(0) if self.pushes else received()
        if self.logins:
            return self.logins.pop(0)
        count = len(self.asked) - 1
        return json_answer({"access_token": BEARER + "x" * count, "token_type": "bearer", "expires_in": self.life})

    @property
    def asked(self) -> list[Seen]:
        """The requests for access tokens."""
        return [seen for seen in self.seen if seen.path != "/"]

    @property
    def pushed(self) -> list[Seen]:
        return [seen for seen in self.seen if seen.path == "/"]


def answer(status: int = 200, wns_status: str = "", **headers: str) -> Answer:
    named = {f"X-WNS-{name.replace('_', '-')}": value for name, value in headers.items()}
    return Answer(status, b"", named | ({"X-WNS-Status": wns_status} if wns_status else {}))


def received(**headers: str) -> Answer:
    return answer(200, "received", Msg_ID="3C2A57B1D8E04F00", DeviceConnectionStatus="connected", **headers)


@pytest.fixture
async def wire() -> AsyncIterator[Service]:
    async with Service().serving() as wire:
        assert isinstance(wire, Service)
        yield wire


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def app(wire: Service, clock: ManualClock) -> AsyncIterator[Wns]:
    app = Wns(wns.PLUGIN.read_config(Fields(contract(wire.url).config)), clock, timeout_s=30)
    yield app
    await app.close()


async def send(app: Wns, wire: Wire, message: PushMessage = WAKE) -> Outcome:
    return await app.send(message, target("wns", contract(wire.url).token))


# ---------------------------------------------------------------- the request


@pytest.mark.parametrize("message", [WAKE, SILENT])
async def test_a_wake_up_is_a_raw_notification_that_waits(wire: Service, app: Wns, message: PushMessage) -> None:
    seen_evidence = {
        "status": 200,
        "wnsStatus": "received",
        "deviceConnection": "connected",
        "messageId": "3C2A57B1D8E04F00",
    }
    assert await send(app, wire, message) == Accepted("3C2A57B1D8E04F00", evidence=seen_evidence)
    (seen,) = wire.pushed
    assert (seen.method, seen.target) == ("POST", f"/?token={CHANNEL}")
    headers = {name: value for name, value in seen.headers.items() if name.startswith(("x-wns", "content-"))}
    assert headers == {
        "x-wns-type": "wns/raw",
        "x-wns-cache-policy": "cache",
        "x-wns-requestforstatus": "true",
        "x-wns-ttl": str(message.life_s),
        "content-type": "application/octet-stream",
        "content-length": str(len(seen.body)),
    }
    assert "transfer-encoding" not in seen.headers
    assert seen.headers["authorization"] == f"Bearer {BEARER}"
    assert msgspec.json.decode(seen.body, type=PushOffer).id == message.id


async def test_a_notification_is_a_toast(wire: Service, app: Wns) -> None:
    await send(app, wire, NOTIFICATION)
    (seen,) = wire.pushed
    assert (seen.headers["x-wns-type"], seen.headers["content-type"]) == ("wns/toast", "text/xml")
    assert "x-wns-cache-policy" not in seen.headers
    toast = ET.fromstring(seen.body)
    assert toast.tag == "toast"
    assert [text.text for text in toast.iterfind("visual/binding[@template='ToastGeneric']/text")] == ["Hello", "Wörld"]
    offer = msgspec.json.decode(toast.attrib["launch"], type=PushOffer)
    assert (offer.id, offer.kind, offer.data) == (NOTIFICATION.id, "notification", NOTIFICATION.data)
    assert (offer.title, offer.body) == (None, None)


@pytest.mark.parametrize("text", [HIGH, "</text><text>more", "\ud800x", "a\nb", "&#x0;", "]]>", "\x00\x01"])
def test_no_text_breaks_out_of_its_element(text: str) -> None:
    message = PushMessage(LOW, "notification", 60, title=text, body=text, data={"x": HIGH})
    toast = ET.fromstring(body_of(message) or b"")
    shown = [element.text or "" for element in toast.iterfind("visual/binding/text")]
    forbidden = {"\x00", "\x01", "\x0b", "\uffff", "\ud800"}
    assert shown == ["".join(c for c in text if c not in forbidden)] * 2
    assert len(list(toast.iter())) == 5
    assert msgspec.json.decode(toast.attrib["launch"], type=PushOffer).id == LOW


@pytest.mark.parametrize(("life_s", "sent"), [(0, 1), (-5, 1), (1, 1), (10**9, MAX_LIFE_S)])
async def test_the_life_is_that_of_the_push(wire: Service, app: Wns, life_s: int, sent: int) -> None:
    await send(app, wire, PushMessage(LOW, "wake", life_s))
    assert wire.pushed[0].headers["x-wns-ttl"] == str(sent)


def test_the_size_is_that_of_the_body() -> None:
    def sized(kind: str, characters: int) -> PushMessage:
        text = "y" * characters
        return (
            PushMessage(LOW, kind, 60, body=text)
            if kind == "notification"
            else PushMessage(LOW, kind, 60, data={"x": text})
        )

    for kind in ("notification", "silent"):
        most = 5000 - len(body_of(sized(kind, 1)) or b"") + 1
        assert len(body_of(sized(kind, most)) or b"") == 5000
        assert wns.PLUGIN.check(sized(kind, most)) is None
        assert "at most 5000" in (wns.PLUGIN.check(sized(kind, most + 1)) or "")
    assert "cannot be written" in (wns.PLUGIN.check(PushMessage(LOW, "silent", 60, data={"x": "\ud800"})) or "")


# ---------------------------------------------------------------- where the access token goes


@pytest.mark.parametrize("uri", GOOD_TOKENS)
def test_microsofts_channels(uri: str) -> None:
    assert channel_fault(uri) is None
    assert channel_fault(uri, frozenset()) is None


@pytest.mark.parametrize("uri", BAD_TOKENS)
async def test_no_token_leaves_for_another_host(wire: Service, app: Wns, uri: str) -> None:
    assert channel_fault(uri) is not None
    outcome = await app.send(WAKE, target("wns", uri))
    assert isinstance(outcome, Rejected)
    assert outcome.token_gone
    assert wire.seen == []


async def test_this_machine_is_no_exception_unless_the_account_names_it(wire: Service, app: Wns) -> None:
    async with Wire().serving() as other:
        uri = f"{other.url}/?token={CHANNEL}"
        assert channel_fault(uri) is None  # which account it is for is not known yet
        outcome = await app.send(WAKE, target("wns", uri))
        assert isinstance(outcome, Rejected)
        assert outcome.token_gone
        assert (other.seen, wire.seen) == ([], [])


async def test_a_redirect_is_not_followed(wire: Service, app: Wns) -> None:
    async with Wire().serving() as other:
        wire.pushes.append(Answer(307, b"", {"Location": f"{other.url}/?token={CHANNEL}"}))
        assert isinstance(await send(app, wire), RetryLater)
        wire.logins.append(Answer(307, b"", {"Location": other.url}))
        assert isinstance(await app.probe(), Unavailable)
        assert other.seen == []


def test_settings_that_lead_tokens_elsewhere_are_addresses() -> None:
    assert wns.PLUGIN.addresses.keys() == {"loginUrl", "channelHosts"}


# ---------------------------------------------------------------- access tokens


async def test_the_token_of_a_store_app(wire: Service, app: Wns) -> None:
    await send(app, wire)
    await send(app, wire)
    (seen,) = wire.asked
    assert (seen.method, seen.target) == ("POST", STORE_PATH)
    assert form(seen) == {
        "grant_type": "client_credentials",
        "client_id": SID,
        "client_secret": SECRET,
        "scope": "notify.windows.com",
    }


async def test_the_token_of_a_windows_app_sdk_app(wire: Service, clock: ManualClock) -> None:
    given = {key: value for key, value in contract(wire.url).config.items() if key != "packageSid"} | ENTRA
    app = Wns(wns.PLUGIN.read_config(Fields(given)), clock)
    await send(app, wire)
    await app.close()
    (seen,) = wire.asked
    assert seen.target == f"/{ENTRA['tenantId']}/oauth2/v2.0/token"
    assert form(seen) == {
        "grant_type": "client_credentials",
        "client_id": ENTRA["clientId"],
        "client_secret": SECRET,
        "scope": "https://wns.windows.com/.default",
    }


def form(seen: Seen) -> dict[str, str]:
    assert seen.headers["content-type"] == "application/x-www-form-urlencoded"
    return Seen("POST", f"/?{seen.body.decode()}", {}, b"").query


@pytest.mark.parametrize(
    ("identity", "address"),
    [
        ({"packageSid": SID}, "https://login.live.com/accesstoken.srf"),
        (ENTRA, f"https://login.microsoftonline.com/{ENTRA['tenantId']}/oauth2/v2.0/token"),
    ],
)
def test_microsofts_token_services_are_the_usual_ones(
    identity: dict[str, str], address: str, clock: ManualClock
) -> None:
    config = wns.PLUGIN.read_config(Fields(identity | KEPT))
    assert Wns(config, clock)._tokens._address == address


async def test_many_senders_share_one_request(wire: Service, app: Wns) -> None:
    wire.may_answer.clear()
    sending = [asyncio.create_task(send(app, wire)) for _ in range(20)]
    await wire.got_one.wait()
    await asyncio.sleep(0)
    wire.may_answer.set()
    assert all(isinstance(outcome, Accepted) for outcome in await asyncio.gather(*sending))
    assert len(wire.asked) == 1


async def renewed(app: Wns) -> None:
    """The last request for a token has ended, if one was made."""
    if app._tokens._flight is not None:
        await app._tokens._flight


async def test_a_token_is_renewed_before_its_end_while_the_old_one_serves(
    wire: Service, app: Wns, clock: ManualClock
) -> None:
    await send(app, wire)
    clock.advance(86400 * 0.79)
    await send(app, wire)
    assert len(wire.asked) == 1
    clock.advance(86400 * 0.02)
    wire.logins.append(Answer(503, b""))
    await send(app, wire)
    await renewed(app)
    assert len(wire.asked) == 2
    await send(app, wire)  # not again at once
    assert len(wire.asked) == 2
    clock.advance(31)
    await send(app, wire)
    await renewed(app)
    assert len(wire.asked) == 3
    await send(app, wire)
    bearers = [seen.headers["authorization"].removeprefix("Bearer ") for seen in wire.pushed]
    assert bearers[:-1] == [BEARER] * (len(bearers) - 1)
    assert bearers[-1] == BEARER + "xx"


async def test_an_ended_token_is_never_sent(wire: Service, app: Wns, clock: ManualClock) -> None:
    await send(app, wire)
    clock.advance(86400)
    await send(app, wire)
    assert wire.pushed[-1].headers["authorization"] == f"Bearer {BEARER}x"


async def test_a_refused_token_is_renewed_once(wire: Service, app: Wns) -> None:
    wire.pushes += [answer(401), received()]
    assert isinstance(await send(app, wire), Accepted)
    assert [seen.headers["authorization"] for seen in wire.pushed] == [f"Bearer {BEARER}", f"Bearer {BEARER}x"]
    wire.pushes += [answer(401), answer(401, Error_Description="bad ticket")]
    assert await send(app, wire) == Misconfigured(Verdict.KEY, {"status": 401, "error": "bad ticket"})
    assert len(wire.pushed) == 4


async def test_many_refusals_renew_once(wire: Service, app: Wns) -> None:
    await send(app, wire)
    wire.pushes += [answer(401)] * 10
    assert all(isinstance(o, Accepted) for o in await asyncio.gather(*(send(app, wire) for _ in range(10))))
    assert len(wire.asked) == 2


def oauth(error: Any, status: int = 400, **members: Any) -> Answer:
    return json_answer({"error": error, "error_description": f"{SECRET} is wrong", **members}, status)


@pytest.mark.parametrize(
    ("login", "expected"),
    [
        (oauth("invalid_client", 401), Misconfigured("the token service gave no token (401 invalid_client)")),
        (
            oauth("unauthorized_client", error_codes=[700016, "x", True]),
            Misconfigured("the token service gave no token (400 unauthorized_client AADSTS700016)"),
        ),
        (oauth("canary"), RetryLater("the token service gave no token (400)", account_wide=True)),
        (oauth("temporarily_unavailable"), RetryLater("the token service gave no token (400)", account_wide=True)),
        (oauth({}), RetryLater("the token service gave no token (400)", account_wide=True)),
        (
            Answer(429, b"", {"Retry-After": "7"}),
            RetryLater("the token service gave no token (429)", 7.0, account_wide=True),
        ),
        (Answer(200, b"<html>"), RetryLater("the token service gave no token (200)", account_wide=True)),
        (
            json_answer({"access_token": "line\r\nbreak"}),
            RetryLater("the token service gave no token (200)", account_wide=True),
        ),
        (
            Raw(b""),
            RetryLater("the token service cannot be reached (RemoteProtocolError)", account_wide=True),
        ),
    ],
)
async def test_without_a_token_nothing_is_sent(wire: Service, app: Wns, login: Action, expected: Outcome) -> None:
    wire.logins.append(login)
    assert await send(app, wire) == expected
    assert wire.pushed == []
    wire.logins.append(login)
    probed = await app.probe()
    if isinstance(expected, Misconfigured):
        assert probed == expected
    else:
        assert isinstance(expected, RetryLater)
        assert probed == Unavailable(expected.reason, expected.after_s)


async def test_the_probe_asks_anew(wire: Service, app: Wns) -> None:
    assert isinstance(await app.probe(), Works)
    wire.logins.append(oauth("invalid_client", 401))
    assert isinstance(await app.probe(), Misconfigured)


@pytest.mark.parametrize("life", [None, "soon", -1, 0, True, 1e300])
async def test_an_odd_life_is_not_believed(wire: Service, app: Wns, clock: ManualClock, life: Any) -> None:
    wire.life = life
    await send(app, wire)
    clock.advance(3601)
    await send(app, wire)
    assert len(wire.asked) == 2


# ---------------------------------------------------------------- answers


def why(status: int, **members: str) -> dict[str, Any]:
    return {"status": status, **members}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (answer(200, "received"), Accepted(WAKE.id, evidence=why(200, wnsStatus="received"))),
        (answer(200, Msg_ID="M1"), Accepted("M1", evidence=why(200, messageId="M1"))),
        (
            answer(200, "received", Msg_ID="a/b"),
            Accepted(WAKE.id, evidence=why(200, wnsStatus="received", messageId="a/b")),
        ),
        (answer(200, NotificationStatus="received"), Accepted(WAKE.id, evidence=why(200, wnsStatus="received"))),
        (
            answer(200, "received", DeviceConnectionStatus="disconnected"),
            Accepted(WAKE.id, evidence=why(200, wnsStatus="received", deviceConnection="disconnected")),
        ),
        (answer(200, "dropped"), RetryLater(Verdict.DROPPED, evidence=why(200, wnsStatus="dropped"))),
        (answer(200, "Dropped"), RetryLater(Verdict.DROPPED, evidence=why(200, wnsStatus="Dropped"))),
        (
            answer(200, "channelthrottled"),
            RetryLater(Verdict.CHANNEL_LIMIT, evidence=why(200, wnsStatus="channelthrottled")),
        ),
        (
            answer(200, "new-word"),
            RetryLater(Verdict.UNCLEAR, uncertain=True, evidence=why(200, wnsStatus="new-word")),
        ),
        (Answer(200, b"<html>"), RetryLater("an answer that is not WNS's", uncertain=True, evidence=why(200))),
        (Answer(202, b""), RetryLater(Verdict.UNCLEAR, uncertain=True, evidence=why(202))),
        (answer(302), RetryLater(Verdict.UNCLEAR, uncertain=True, evidence=why(302))),
        (answer(400, Error_Description="bad"), Rejected(Verdict.REJECTED, evidence=why(400, error="bad"))),
        (answer(403), Rejected(Verdict.OTHER_APP, token_gone=True, evidence=why(403))),
        (answer(404), Rejected(Verdict.GONE, token_gone=True, evidence=why(404))),
        (answer(405), Rejected(Verdict.REJECTED, evidence=why(405))),
        (
            answer(410, "dropped"),
            Rejected(Verdict.GONE, token_gone=True, evidence=why(410, wnsStatus="dropped")),
        ),
        (
            answer(410, Error_Description="Domain Blocked"),
            Misconfigured(Verdict.BLOCKED, why(410, error="Domain Blocked")),
        ),
        (
            Answer(406, b"", {"Retry-After": "60"}),
            RetryLater(Verdict.LIMIT, 60.0, account_wide=True, evidence=why(406)),
        ),
        (
            answer(406, "channelthrottled"),
            RetryLater(Verdict.CHANNEL_LIMIT, evidence=why(406, wnsStatus="channelthrottled")),
        ),
        (Answer(429, b"", {"Retry-After": "x"}), RetryLater(Verdict.LIMIT, account_wide=True, evidence=why(429))),
        (answer(413), Rejected(Verdict.REJECTED, evidence=why(413))),
        (answer(407), RetryLater(Verdict.LATER, evidence=why(407))),
        (answer(500), RetryLater(Verdict.UNCLEAR, uncertain=True, evidence=why(500))),
        (answer(502), RetryLater(Verdict.UNCLEAR, uncertain=True, evidence=why(502))),
        (Answer(503, b"", {"Retry-After": "9"}), RetryLater(Verdict.LATER, 9.0, evidence=why(503))),
        (Answer(408, b"<html>"), RetryLater(Verdict.UNCLEAR, uncertain=True, evidence=why(408))),
        (Raw(b""), RetryLater("RemoteProtocolError", uncertain=True)),
        (Raw(b"HTTP/1.1 200 OK\r\nContent-Le"), RetryLater("RemoteProtocolError", uncertain=True)),
    ],
)
async def test_answers(wire: Service, app: Wns, given: Action, expected: Outcome) -> None:
    wire.pushes.append(given)
    assert await send(app, wire) == expected
    assert len(wire.pushed) == 1


def test_every_answer_has_a_verdict() -> None:
    for status in range(100, 1000):
        for word in ("", "received", "dropped", "channelthrottled", "x", "line\nbreak"):
            assert isinstance(verdict_on(status, word), Verdict)
            assert (verdict_on(status, word) is Verdict.TAKEN) == (status == 200 and word in ("", "received"))


async def test_what_wns_says_is_kept_within_bounds_and_without_secrets(wire: Service, app: Wns) -> None:
    said = f"{SECRET} {BEARER} {CHANNEL} {wire.url}/?token={CHANNEL}"
    trace = {"Debug_Trace": f"{said} {'x' * 1000}", "Error_Description": said, "Msg_ID": CHANNEL}
    wire.pushes.append(answer(200, "received", **trace))
    outcome = await send(app, wire)
    assert isinstance(outcome, Accepted)
    assert outcome.reference == WAKE.id
    assert outcome.evidence["debugTrace"].startswith("… … … … xxx")
    assert outcome.evidence["error"] == "… … … …"
    assert len(outcome.evidence["debugTrace"]) == 300
    assert set(outcome.evidence) == {"status", "wnsStatus", "messageId", "error", "debugTrace"}


async def test_the_head_counts_where_the_body_does_not_come(wire: Service, app: Wns) -> None:
    wire.pushes.append(Answer(200, b"", {"X-WNS-Status": "dropped"}, missing=4))
    assert await send(app, wire) == RetryLater(Verdict.DROPPED, evidence=why(200, wnsStatus="dropped"))


async def test_no_answer_in_time_is_uncertain(wire: Service, clock: ManualClock) -> None:
    app = Wns(wns.PLUGIN.read_config(Fields(contract(wire.url).config)), clock, timeout_s=0.5)
    await app.probe()
    wire.pushes += [Answer(200, b"", {"X-WNS-Status": "received"}, keep=True), Hang()]
    await send(app, wire)  # the connection is there, so that the time goes to waiting alone
    assert await send(app, wire) == RetryLater("no answer in time", uncertain=True)
    await app.close()


async def test_a_token_service_that_hangs_ends_the_call(wire: Service, clock: ManualClock) -> None:
    app = Wns(wns.PLUGIN.read_config(Fields(contract(wire.url).config)), clock, timeout_s=0.2)
    wire.logins.append(Hang())
    outcome = await send(app, wire)
    assert isinstance(outcome, RetryLater)
    assert not outcome.uncertain
    await app.close()


async def test_nobody_there_is_certain(clock: ManualClock) -> None:
    url = await closed_port()
    app = Wns(wns.PLUGIN.read_config(Fields(contract(url).config)), clock)
    outcome = await app.send(WAKE, target("wns", contract(url).token))
    assert outcome == RetryLater("the token service cannot be reached (ConnectError)", account_wide=True)
    await app.close()


async def test_it_only_takes_pushes(app: Wns) -> None:
    assert isinstance(await app.status("x", 1), CannotTell)
    assert isinstance(await app.withdraw("x"), CannotWithdraw)


# ---------------------------------------------------------------- settings


def test_settings() -> None:
    given = {"packageSid": SID, **KEPT, "channelHosts": " 127.0.0.1:9003, [::1]:80 ", "requestsPerMinute": "60"}
    kept = {
        "packageSid": SID,
        "clientSecret": SECRET,
        "loginUrl": "",
        "channelHosts": ["127.0.0.1:9003", "[::1]:80"],
        "requestsPerMinute": 60,
    }
    assert wns.PLUGIN.read_config(Fields(given)) == kept
    assert wns.PLUGIN.read_config(Fields(kept)) == kept  # as when some of them are changed
    assert wns.PLUGIN.platforms == {"windows"}
    assert next(iter(wns.PLUGIN.tokens)) == "channel"


def test_settings_name_all_that_is_wrong() -> None:
    with pytest.raises(InvalidInput) as refusal:
        wns.PLUGIN.read_config(Fields({"clientSecret": f"{SECRET} ", "loginUrl": "x", "channelHosts": "h", "more": 1}))
    assert [fault.path for fault in refusal.value.fields] == [
        "more",
        "clientSecret",
        "packageSid",
        "loginUrl",
        "channelHosts",
    ]
    assert SECRET not in str(refusal.value)
