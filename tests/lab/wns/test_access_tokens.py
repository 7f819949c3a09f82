"""The token services: who gets an access token, and for how long it is good."""

from __future__ import annotations

import pytest

from heliograph_lab.wns import WnsEmulator
from tests.lab.wns.conftest import CLIENT, DAY, ENTRA, OTHER_SID, SID, STORE, World


@pytest.mark.parametrize(("path", "life"), [(STORE, DAY), (ENTRA, DAY - 1)])
async def test_a_token(world: World, path: str, life: int) -> None:
    answer = await world.login(path)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["token_type"], body["expires_in"]) == ("bearer", life)
    assert body["access_token"] != (await world.login(path)).json()["access_token"]


@pytest.mark.parametrize(
    ("path", "form", "status", "error"),
    [
        (STORE, {"grant_type": "password"}, 400, "unsupported_grant_type"),
        (STORE, {"client_id": ""}, 400, "unauthorized_client"),
        (STORE, {"client_id": CLIENT}, 400, "unauthorized_client"),
        (STORE, {"client_secret": ""}, 400, "invalid_client"),
        (STORE, {"scope": "https://wns.windows.com/.default"}, 400, "invalid_scope"),
        (ENTRA, {"client_id": SID}, 400, "unauthorized_client"),
        (ENTRA, {"client_secret": ""}, 401, "invalid_client"),
        (ENTRA, {"scope": "notify.windows.com"}, 400, "invalid_scope"),
    ],
)
async def test_no_token(world: World, path: str, form: dict[str, str], status: int, error: str) -> None:
    answer = await world.login(path, **form)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert ("error_codes" in answer.json()) == (path == ENTRA)


async def test_an_app_with_a_secret_of_its_own(world: World) -> None:
    apps = [{"clientId": SID, "clientSecret": "right"}]
    assert (await world.control.put("/wns/apps", json=apps)).json() == apps
    assert (await world.login(client_secret="wrong")).json()["error"] == "invalid_client"
    assert (await world.login(client_secret="right")).status_code == 200
    assert WnsEmulator(world.kernel).store.apps == {SID: "right"}
    await world.control.put("/wns/apps", json=[])
    assert (await world.login(client_secret="wrong")).status_code == 200


async def test_a_token_ends_with_its_life_on_the_labs_clock(world: World) -> None:
    uri = await world.wns.register(SID, "d1")
    await world.kernel.clock.advance(DAY - 60)
    assert (await world.push(uri)).status_code == 200
    await world.kernel.clock.advance(60)
    answer = await world.push(uri)
    assert answer.status_code == 401
    assert "expired" in answer.headers["x-wns-error-description"]


@pytest.mark.parametrize("token", ["x", f"EgLab.store.%%.ffffffff.{'a' * 43}", f"EgLab.store._w.ffffffffff.{'a' * 43}"])
async def test_what_is_no_token(world: World, token: str) -> None:
    assert (await world.push(await world.wns.register(SID, "d1"), bearer=token)).status_code == 401


async def test_tokens_do_not_mix(world: World) -> None:
    entra = (await world.login(ENTRA)).json()["access_token"]
    mine, foreign, theirs = [await world.wns.register(app, "d1") for app in (SID, OTHER_SID, CLIENT)]
    assert (await world.push(mine)).status_code == 200
    assert (await world.push(foreign)).status_code == 403
    assert (await world.push(theirs)).status_code == 403
    assert (await world.push(theirs, bearer=entra)).status_code == 200
    assert (await world.push(mine, bearer=entra)).status_code == 403
