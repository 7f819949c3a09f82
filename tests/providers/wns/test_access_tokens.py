"""Access tokens: how they are asked for, renewed, and shared."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from heliograph.domain.fields import Fields
from heliograph.ports.push import Accepted, Misconfigured, Outcome, RetryLater, Unavailable, Works
from heliograph.providers import wns
from heliograph.providers.wns.answers import Verdict
from heliograph.providers.wns.client import Wns
from tests.providers.test_wns import BEARER, ENTRA, KEPT, SECRET, SID, STORE_PATH, contract
from tests.providers.wns.rig import ManualClock, Service, answer, received, send
from tests.support.wire import Action, Answer, Raw, Seen, json_answer


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


async def test_a_token_that_one_channel_refuses_stops_only_that_device(
    wire: Service, app: Wns, clock: ManualClock
) -> None:
    """A browser's channel is at the same hosts, and takes no app's token: web-push-php#233, pywebpush#151."""
    refused = {"status": 401, "error": "bad ticket"}

    async def outcome() -> Outcome:
        wire.pushes += [answer(401), answer(401, Error_Description="bad ticket")]
        return await send(app, wire)

    assert await outcome() == Misconfigured(Verdict.KEY, refused)  # nothing has shown yet that the token is good
    assert isinstance(await send(app, wire), Accepted)
    assert await outcome() == Misconfigured(Verdict.KEY, refused, one_device=True)
    assert len(wire.pushed) == 5
    clock.advance(3601)  # the success is too old to speak for it
    assert await outcome() == Misconfigured(Verdict.KEY, refused)


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
        # Entra's own word: its directory does not know WNS.
        (
            oauth("invalid_resource", error_codes=[500011]),
            Misconfigured("the token service gave no token (400 invalid_resource AADSTS500011)"),
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
