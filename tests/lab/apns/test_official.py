"""@parse/node-apn, unmodified, against our APNs: it must find everything where it looks for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heliograph_lab.kernel import Kernel
from tests.lab.apns.conftest import TOPIC, Phone, Sender
from tests.support.node import run_js

PREAMBLE = """
const [options, ...tokens] = process.argv.slice(1);
const apn = require('@parse/node-apn');
const provider = new apn.Provider(JSON.parse(options));
const note = (fields) => Object.assign(new apn.Notification(), {topic: 'com.example.agent', alert: 'hi'}, fields);
const failed = (result) => result.failed.map((one) => ({...one, error: one.error && String(one.error)}));
const say = (answer) => { console.log(JSON.stringify(answer)); provider.shutdown(() => process.exit(0)); };
"""


class Official:
    """The library, driven by scripts."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    async def run(self, script: str, *tokens: str, **options: Any) -> Any:
        options = {
            "address": "127.0.0.1",
            "port": self._sender.apns.server.port,
            "ca": [self._sender.authority.ca_path.read_text()],
            "requestTimeout": 30_000,
            "connectionRetryLimit": 2,
            "token": {
                "key": self._sender.private_key,
                "keyId": self._sender.key.key_id,
                "teamId": self._sender.key.team_id,
            },
            **options,
        }
        given = {name: value for name, value in options.items() if value is not None}
        return await run_js(f"{PREAMBLE}(async () => {{ {script} }})();", json.dumps(given), *tokens, timeout=120)


@pytest.fixture
def official(sender: Sender) -> Official:
    return Official(sender)


async def test_accepted_and_delivered(official: Official, phone: Phone) -> None:
    await phone.online()
    answer = await official.run(
        """
        const one = note({id: '0197f0f0-0000-7000-8000-000000000001', expiry: 1e10, collapseId: 'c', priority: 5,
                          payload: {n: 1}});
        say(await provider.send(one, tokens[0]));
        """,
        phone.token,
    )
    message = "0197f0f0-0000-7000-8000-000000000001"
    assert answer == {"sent": [{"device": phone.token, "apns-id": message}], "failed": []}
    got = await phone.next()
    assert (got.id, got.collapse_id, got.priority) == (message, "c", 5)
    assert got.payload == {"n": 1, "aps": {"alert": "hi"}}


async def test_refusals(official: Official, sender: Sender, phone: Phone, kernel: Kernel) -> None:
    gone = await sender.apns.register(TOPIC, "d2/agent")
    await sender.apns.end(gone)
    answer = await official.run(
        """
        say({
            dead: failed(await provider.send(note({}), tokens[0])),
            unknown: failed(await provider.send(note({}), 'ab'.repeat(32))),
            topic: failed(await provider.send(note({topic: 'com.example.other'}), tokens[1])),
            large: failed(await provider.send(note({payload: {x: 'x'.repeat(5000)}}), tokens[1])),
        });
        """,
        gone,
        phone.token,
    )
    seen = {name: (one["status"], one["response"]["reason"]) for name, (one,) in answer.items()}
    assert seen == {
        "dead": (410, "Unregistered"),
        "unknown": (400, "BadDeviceToken"),
        "topic": (400, "DeviceTokenNotForTopic"),
        "large": (413, "PayloadTooLarge"),
    }
    assert answer["dead"][0]["response"]["timestamp"] > 1e12


async def test_faults(official: Official, sender: Sender, phone: Phone, kernel: Kernel) -> None:
    async def push(**action: Any) -> Any:
        kernel.faults.replace([{"service": "apns", "action": action, "times": 1}])
        return await official.run(
            """
            const {sent, failed: bad} = await provider.send(note({}), tokens[0]);
            say({sent: sent.length, failed: failed({failed: bad})});
            """,
            phone.token,
        )

    assert (await push(status=503))["sent"] == 1  # it tries again
    assert (await push(status=403, reason="ExpiredProviderToken"))["sent"] == 1  # with a new token
    seen = [item.headers["authorization"] for item in kernel.requests.items("apns")]
    assert (len(seen), len(set(seen))) == (4, 3)
    (empty,) = (await push(status=503, body=""))["failed"]
    assert "status 503 and empty body" in empty["error"]
    (shutdown,) = (await push(reset="INTERNAL_ERROR"))["failed"]
    assert "error" in shutdown
    assert sender.apns.server.counts.processed == 2


async def test_a_key_that_is_not_ours(official: Official, sender: Sender, phone: Phone) -> None:
    token = {"key": sender.private_key, "keyId": "OTHER12345", "teamId": sender.key.team_id}
    answer = await official.run("say(failed(await provider.send(note({}), tokens[0])));", phone.token, token=token)
    assert (answer[0]["status"], answer[0]["response"]) == (403, {"reason": "InvalidProviderToken"})


async def test_certificate_and_mdm(official: Official, sender: Sender, tmp_path: Path) -> None:
    topic = "com.apple.mgmt.External.1"
    phone = Phone(sender.apns, await sender.apns.register(topic, "d1/mdm"))
    await phone.online()
    path = tmp_path / "client.pem"
    path.write_bytes(sender.authority.client_certificate(uid=topic))
    answer = await official.run(
        """
        const wake = new apn.Notification();
        Object.assign(wake, {topic: 'com.apple.mgmt.External.1', mdm: 'magic', pushType: 'mdm'});
        say(await provider.send(wake, tokens[0]));
        """,
        phone.token,
        token=None,
        cert=str(path),
        key=str(path),
    )
    assert answer["failed"] == []
    assert (await phone.next()).payload == {"mdm": "magic"}


async def test_many_on_one_connection(official: Official, sender: Sender, phone: Phone) -> None:
    answer = await official.run(
        """
        await provider.send(note({}), tokens[0]);  // one stream until the token is known
        const all = await Promise.all(Array.from({length: 300}, () => provider.send(note({}), tokens[0])));
        say({failed: all.flatMap(failed)});
        """,
        phone.token,
    )
    assert answer == {"failed": []}
    assert (sender.apns.server.counts.connections, sender.apns.tokens.seen) == (1, 1)
