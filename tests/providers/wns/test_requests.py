"""What is sent to WNS: the kind of notification, its text, its life, its size."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import msgspec
import pytest

from heliograph.ports.push import Accepted, CannotTell, CannotWithdraw, PushMessage
from heliograph.providers import wns
from heliograph.providers.wns.client import MAX_LIFE_S, Wns, body_of
from heliograph_protocol.messages import PushOffer
from tests.providers.samples import NOTIFICATION, SILENT, WAKE
from tests.providers.test_wns import BEARER, CHANNEL
from tests.providers.wns.rig import Service, send

LOW, HIGH = "a" * 24, "\uffff\x0b<&>\"']]>"


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


async def test_it_only_takes_pushes(app: Wns) -> None:
    assert isinstance(await app.status("x", 1), CannotTell)
    assert isinstance(await app.withdraw("x"), CannotWithdraw)
