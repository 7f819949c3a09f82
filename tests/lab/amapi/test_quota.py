"""The quota: a fixed window for each project, on the lab's clock."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from heliograph_lab.amapi.oauth import project_of_account, project_of_token
from heliograph_lab.amapi.side import add_routes
from heliograph_lab.control import control_app
from tests.lab.amapi.rig import ENTERPRISE, Rig, running
from tests.lab.serving import client_of

D1 = f"/v1/{ENTERPRISE}/devices/d1"


async def _token(rig: Rig, email: str) -> str:
    claims = {"iss": email, "aud": "https://oauth2.googleapis.com/token", "iat": 1, "exp": 3601}
    claims["scope"] = "https://www.googleapis.com/auth/androidmanagement"
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in ({"alg": "RS256"}, claims)]
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": ".".join([*parts, "sig"])}
    token: str = (await rig.client.post("/token", data=form)).json()["access_token"]
    return token


async def _statuses(rig: Rig, count: int, **headers: str) -> list[int]:
    return [(await rig.client.get(D1, headers=headers)).status_code for _ in range(count)]


async def test_it_is_off_by_default(rig: Rig) -> None:
    assert set(await _statuses(rig, 200)) == {200}
    assert rig.emulator.quota.shown()["limit"] is None


async def test_each_project_has_a_window_of_its_own(rig: Rig) -> None:
    await rig.kernel.clock.advance(1)
    await rig.kernel.settings.change({"amapi": {"quotaLimit": 3, "quotaWindow": 86_400 * 365}})
    first = {"authorization": f"Bearer {await _token(rig, 'robot@alpha.iam.gserviceaccount.com')}"}
    second = {"authorization": f"Bearer {await _token(rig, 'robot@beta.iam.gserviceaccount.com')}"}
    assert await _statuses(rig, 5, **first) == [200, 200, 200, 429, 429]
    assert await _statuses(rig, 1, **second) == [200]
    assert await _statuses(rig, 1, **first, **{"x-goog-user-project": "gamma"}) == [200]
    assert await _statuses(rig, 4) == [200, 200, 200, 429]  # a token from elsewhere
    await rig.kernel.clock.advance(86_400 * 365)
    assert await _statuses(rig, 1, **first) == [200]
    counts = {p["project"]: (p["used"], p["accepted"], p["refused"]) for p in rig.emulator.quota.shown()["projects"]}
    assert counts == {"beta": (0, 1, 0), "gamma": (0, 1, 0), "unknown": (0, 3, 1), "alpha": (1, 4, 2)}


@pytest.mark.parametrize("retry_after", [None, 0, 7])
async def test_the_refusal_is_googles(rig: Rig, retry_after: int | None) -> None:
    await rig.kernel.settings.change({"amapi": {"quotaLimit": 0, "quotaRetryAfter": retry_after}})
    response = await rig.client.get(D1)
    assert (response.status_code, response.json()["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
    assert response.json()["error"]["message"].startswith("Quota exceeded for quota metric")
    assert response.headers.get("retry-after") == (None if retry_after is None else str(retry_after))


async def test_what_is_refused_is_not_carried_out_and_what_is_faulted_uses_nothing_up(rig: Rig) -> None:
    await rig.kernel.settings.change({"amapi": {"quotaLimit": 1}})
    rig.kernel.faults.replace([{"service": "amapi", "action": {"status": 503}, "times": 1}])
    assert (await rig.issue(status=503))["error"]["status"] == "UNAVAILABLE"
    assert await rig.ask("GET", f"{ENTERPRISE}/devices/d1/operations") == {}
    await rig.kernel.settings.change({"amapi": {"quotaLimit": 0}})
    await rig.issue(status=429)
    await rig.kernel.settings.change({"amapi": {"quotaLimit": None}})
    assert await rig.ask("GET", f"{ENTERPRISE}/devices/d1/operations") == {}


async def test_an_unauthenticated_request_uses_nothing_up(rig: Rig) -> None:
    assert await _statuses(rig, 3, authorization="Basic eA==") == [401, 401, 401]
    assert rig.emulator.quota.shown()["projects"] == []


async def test_a_flood_of_names_of_projects_is_bounded(rig: Rig) -> None:
    for number in range(1100):
        rig.emulator.quota.take(f"p{number}")
    assert len(rig.emulator.quota.shown()["projects"]) == 1000


async def test_the_control_api_reports_it(tmp_path: Path) -> None:
    async def settled(_: str | None) -> None:
        return

    async with running(tmp_path) as rig:
        router = control_app(rig.kernel, rig.fleet, settled)
        add_routes(router, rig.emulator)
        async with client_of(router) as control:
            wanted = {"amapi": {"quotaLimit": 2, "quotaWindow": 1e7}}
            assert (await control.put("/settings", json=wanted)).json()["amapi"]["quotaLimit"] == 2
            await _statuses(rig, 3)
            shown: dict[str, Any] = (await control.get("/quota")).json()
            assert (shown["limit"], shown["windowSeconds"]) == (2, 1e7)
            assert shown["windowEnds"].endswith("Z")
            assert shown["projects"] == [{"project": "unknown", "used": 2, "accepted": 2, "refused": 1}]
            await _refused(control)
            assert (await control.delete("/settings")).json()["amapi"]["quotaLimit"] is None
            assert await _statuses(rig, 1) == [200]


async def _refused(control: httpx2.AsyncClient) -> None:
    answer = await control.put("/settings", json={"amapi": {"quotaLimit": "many"}})
    assert (answer.status_code, set(answer.json())) == (400, {"error"})
    assert "quotaLimit" in answer.json()["error"]


@pytest.mark.parametrize("token", ["", "x", "ya29.lab.", "ya29.lab.é.x", "ya29.lab.!!!.x", "ya29.lab..x", "ya29.lab.x"])
def test_other_tokens_are_of_no_known_project(token: str) -> None:
    assert project_of_token(token) == "unknown"


def test_the_project_of_a_service_account() -> None:
    assert project_of_account("robot@my-project.iam.gserviceaccount.com") == "my-project"
    assert project_of_account("robot") == "unknown"
    assert len(project_of_account("robot@" + "p" * 1000)) == 100
