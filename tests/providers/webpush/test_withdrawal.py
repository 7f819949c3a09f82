"""How a push is named, and withdrawn by its name."""

from __future__ import annotations

import pytest
from jwt.utils import base64url_decode

from heliograph.ports.push import Accepted, CannotTell, CannotWithdraw, Unavailable, Withdrawn, Works
from heliograph.providers.webpush import WebPush
from tests.providers.samples import WAKE
from tests.providers.test_webpush import SECRET_PATH
from tests.providers.webpush.rig import send
from tests.support.wire import Action, Answer, Raw, Wire


@pytest.mark.parametrize(
    ("location", "reference"),
    [
        ("/m/1", "{url}/m/1"),
        ("{url}/m/1?x=2", "{url}/m/1?x=2"),
        ("m/1", "{url}/m/1"),
        ("", WAKE.id),
        (f"/{SECRET_PATH}", WAKE.id),  # the subscription itself: to delete it is to lose the device
        (f"/{SECRET_PATH}/?x", WAKE.id),
        ("{url}/" + SECRET_PATH + "?up=1", WAKE.id),
        ("https://elsewhere.example/m/1", WAKE.id),
        ("//elsewhere.example/m/1", WAKE.id),
        ("http://127.0.0.1:1/m/1", WAKE.id),
        ("http://[x/m", WAKE.id),
        ("/m/" + "x" * 256, WAKE.id),
        ("/m/1#x", WAKE.id),
        ("/m 1", WAKE.id),
    ],
)
async def test_the_name_of_a_push(wire: Wire, app: WebPush, location: str, reference: str) -> None:
    wire.answers.append(Answer(201, b"", {"Location": location.format(url=wire.url)}))
    outcome = await send(app, wire)
    assert isinstance(outcome, Accepted)
    assert outcome.reference == reference.format(url=wire.url)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(204, b""), Withdrawn()),
        (Answer(200, b""), Withdrawn()),
        (Answer(200, b"{}"), Withdrawn()),
        (Answer(202, b""), Unavailable("an answer that is not a push service's")),
        (
            Answer(404, b""),
            CannotWithdraw("the push service knows no such push: it expired, was delivered, or was withdrawn"),
        ),
        (Answer(405, b""), CannotWithdraw("this push service takes no push back")),
        (Answer(501, b""), CannotWithdraw("this push service takes no push back")),
        (Answer(429, b"", {"Retry-After": "5"}), Unavailable("the push service cannot do it now", 5.0)),
        (Answer(406, b"", {"Retry-After": "9"}), Unavailable("the push service cannot do it now", 9.0)),
        (Answer(407, b""), Unavailable("the push service cannot do it now")),
        (Answer(421, b""), Unavailable("the push service cannot do it now")),
        (Answer(503, b""), Unavailable("the push service cannot do it now")),
        (Raw(b""), Unavailable("RemoteProtocolError")),
    ],
)
async def test_withdrawal(wire: Wire, app: WebPush, answer: Action, expected: object) -> None:
    wire.answers.append(answer)
    assert await app.withdraw(f"{wire.url}/m/1") == expected
    assert (wire.seen[0].method, wire.seen[0].target, wire.seen[0].body) == ("DELETE", "/m/1", b"")


async def test_what_has_no_name_is_not_withdrawn(wire: Wire, app: WebPush) -> None:
    assert isinstance(await app.withdraw(WAKE.id), CannotWithdraw)
    assert wire.seen == []


async def test_nobody_says_what_became_of_a_push(app: WebPush) -> None:
    assert await app.status("x", 30) == CannotTell()
    probed = await app.probe()
    assert isinstance(probed, Works)
    assert probed.detail.split(" ")[-1].startswith("B")
    assert len(base64url_decode(probed.detail.split(" ")[-1])) == 65
