"""firebase-admin, unmodified, against our FCM: it must find everything where it looks for it.

It runs in a process of its own, which alone trusts the lab's authority. Of what is private only the address of FCM is
set; `token_uri` is data of the key.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from heliograph_lab.fcm import Message
from heliograph_lab.serve import Lab, LabOptions
from tests.lab.fcm.conftest import PROJECT, Phone

SCRIPT = """
import asyncio, json, sys, warnings
import firebase_admin
from firebase_admin import credentials, messaging

warnings.simplefilter("ignore", DeprecationWarning)  # Message.token
config = json.load(sys.stdin)
app = firebase_admin.initialize_app(credentials.Certificate(config["key"]))
service = messaging._get_messaging_service(app)
service._fcm_url = config["fcmUrl"] + "/v1/projects/" + app.project_id + "/messages:send"

def message(wanted):
    android = messaging.AndroidConfig(**wanted["android"]) if "android" in wanted else None
    return messaging.Message(android=android, **{k: v for k, v in wanted.items() if k != "android"})

async def run():
    messages = [message(wanted) for wanted in config["messages"]]
    answer = await messaging.send_each_async(messages, dry_run=config["dryRun"], app=app)
    return [
        {"id": one.message_id} if one.success else
        {"error": type(one.exception).__name__, "code": one.exception.code, "text": str(one.exception)}
        for one in answer.responses
    ]

print(json.dumps(asyncio.run(run())))
"""


class Official:
    """The library, driven by data."""

    def __init__(self, lab: Lab, private_key: str) -> None:
        self.lab = lab
        self._key = private_key

    async def send(self, *messages: dict[str, Any], dry_run: bool = False, project: str = PROJECT) -> Any:
        key = {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key": self._key,
            "client_email": f"push@{project}.iam.gserviceaccount.com",
            "token_uri": f"{self.lab.urls['amapiUrl']}/token",
        }
        config = {"key": key, "fcmUrl": self.lab.urls["fcmUrl"], "messages": messages, "dryRun": dry_run}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SCRIPT),
            env={**os.environ, "SSL_CERT_FILE": self.lab.urls["caPath"], "NO_PROXY": "*"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await asyncio.wait_for(process.communicate(json.dumps(config).encode()), 120)
        assert process.returncode == 0, errors.decode()
        return json.loads(output)


@pytest.fixture
async def official(tmp_path: Path, private_key: str) -> AsyncIterator[Official]:
    lab = Lab(LabOptions(state_dir=tmp_path / "lab"))
    await lab.start()
    yield Official(lab, private_key)
    await lab.stop()


@pytest.fixture
async def phone(official: Official) -> Phone:
    return Phone(official.lab.fcm, await official.lab.fcm.register(PROJECT, "d1/agent"))


async def test_accepted_and_delivered(official: Official, phone: Phone) -> None:
    fid = Phone(official.lab.fcm, await official.lab.fcm.register(PROJECT, "d1/agent", "fid"))
    await phone.online()
    await fid.online()
    android = {"priority": "high", "ttl": 1.5, "collapse_key": "k"}
    one, two = await official.send(
        {"token": phone.address, "data": {"n": "1"}, "android": android}, {"fid": fid.address, "data": {"n": "2"}}
    )
    got: Message = await phone.next()
    assert (got.data, got.priority, got.collapse_key) == ({"n": "1"}, "high", "k")
    assert one == {"id": f"projects/{PROJECT}/messages/{got.name}"}
    assert two == {"id": f"projects/{PROJECT}/messages/{(await fid.next()).name}"}
    assert official.lab.fcm.server.counts.connections == 1


async def test_dry_run(official: Official, phone: Phone) -> None:
    (answer,) = await official.send({"token": phone.address}, dry_run=True)
    assert answer == {"id": f"projects/{PROJECT}/messages/fake_message_id"}
    assert official.lab.fcm.sent == {"delivered": 0, "stored": 0, "dropped": 0}


async def test_refusals(official: Official, phone: Phone) -> None:
    fcm = official.lab.fcm
    gone = await fcm.register(PROJECT, "d2/agent")
    await fcm.end(gone)
    others = await fcm.register("other-project", "d1/agent")
    answers = await official.send(
        {"token": gone},
        {"token": others},
        {"token": "no-token"},
        {"token": phone.address, "data": {"x": "x" * 5000}},
        {"topic": "news"},
    )
    assert [(answer["error"], answer["code"]) for answer in answers[:4]] == [
        ("UnregisteredError", "NOT_FOUND"),
        ("SenderIdMismatchError", "PERMISSION_DENIED"),
        ("InvalidArgumentError", "INVALID_ARGUMENT"),
        ("InvalidArgumentError", "INVALID_ARGUMENT"),
    ]
    assert "does not model topics" in answers[4]["text"]
    (denied,) = await official.send({"token": phone.address}, project="other-project")
    assert (denied["error"], denied["code"]) == ("PermissionDeniedError", "PERMISSION_DENIED")


async def test_faults(official: Official, phone: Phone) -> None:
    async def send(action: dict[str, Any], times: int | None = None) -> Any:
        rule = {"service": "fcm", "action": action, **({"times": times} if times else {})}
        official.lab.kernel.faults.replace([rule])
        (answer,) = await official.send({"token": phone.address})
        return answer

    quota = await send({"status": 429})
    assert (quota["error"], quota["code"]) == ("QuotaExceededError", "RESOURCE_EXHAUSTED")
    third = await send({"status": 401})
    assert third["error"] == "ThirdPartyAuthError"
    internal = await send({"status": 400, "reason": "BAD_REQUEST"})
    assert internal["error"] == "InvalidArgumentError"
    assert "id" in await send({"status": 503}, times=1)  # it tries again
    assert official.lab.fcm.server.counts.processed == 1
