"""Pushy's own client library, unmodified, against our Pushy: it must find everything where it looks for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from heliograph_lab.kernel import Kernel
from heliograph_lab.pushy import Push, PushyEmulator
from tests.lab.serving import serving
from tests.support.node import run_js

KEY = "6a547f1e7fa1dca83ec11a9210b99dfc87f3935b12415"
PREAMBLE = """
const [endpoint, key, ...tokens] = process.argv.slice(1);
const Pushy = require('pushy');
const pushy = new Pushy(key);
pushy.setEnterpriseConfig(endpoint);
const failure = (call) => call.then(() => 'no error', (error) => error);
const say = (answer) => console.log(JSON.stringify(answer));
"""


class Official:
    """The library, driven by scripts."""

    def __init__(self, url: str, pushy: PushyEmulator) -> None:
        self._url = url
        self.pushy = pushy

    async def run(self, script: str, *tokens: str, key: str = KEY) -> Any:
        source = f"{PREAMBLE}(async () => {{ {script} }})();"
        return await run_js(source, self._url, key, *tokens, timeout=120)


@pytest.fixture
async def official(kernel: Kernel) -> AsyncIterator[Official]:
    emulator = PushyEmulator(kernel)
    async with serving(emulator.app) as url:
        yield Official(url, emulator)
    await emulator.stop()


async def test_send_and_status(official: Official) -> None:
    one = await official.pushy.register(KEY, "d1")
    answer = await official.run(
        """
        const sent = await pushy.sendPushNotification({n: 1}, tokens, {time_to_live: 3600});
        say({sent, status: await pushy.getNotificationStatus(sent.id)});
        """,
        one,
        "unknowntoken",
    )
    assert answer["sent"]["success"] is True
    assert answer["sent"]["info"] == {"devices": 1, "failed": ["unknowntoken"]}
    status = answer["status"]
    assert status == {
        "date": status["date"],
        "payload": {"n": 1},
        "expiration": status["date"] + 3600,
        "pending_devices": [one],
    }
    assert official.pushy.store.push(KEY, answer["sent"]["id"]) is not None


async def test_delivered(official: Official) -> None:
    one = await official.pushy.register(KEY, "d1")
    got: asyncio.Queue[Push] = asyncio.Queue()
    await official.pushy.connect(one, got.put)
    answer = await official.run(
        """
        const sent = await pushy.sendPushNotification({n: 1}, tokens[0]);
        let status;
        do { status = await pushy.getNotificationStatus(sent.id); } while (status.pending_devices.length);
        say({sent, status, info: await pushy.getDeviceInfo(tokens[0])});
        """,
        one,
    )
    assert (await got.get()).id == answer["sent"]["id"]
    assert answer["status"]["expiration"] == answer["status"]["date"] + 30 * 86_400
    assert answer["info"]["pending_notifications"] == []


async def test_delete(official: Official) -> None:
    one = await official.pushy.register(KEY, "d1")
    answer = await official.run(
        """
        const sent = await pushy.sendPushNotification({n: 1}, tokens);
        const deleted = await failure(pushy.deletePushNotification(sent.id));
        const again = await failure(pushy.deletePushNotification(sent.id));
        const status = await failure(pushy.getNotificationStatus(sent.id));
        say({deleted, again, status});
        """,
        one,
    )
    assert answer["deleted"] == "no error"
    assert answer["again"]["code"] == answer["status"]["code"] == "INVALID_PUSH_ID"
    assert answer["again"]["error"]
    assert official.pushy.store.next(one) is None


async def test_device_info_and_presence(official: Official) -> None:
    one = await official.pushy.register(KEY, "d1")
    phone = await official.pushy.register(KEY, "d2", "ios")
    await official.pushy.connect(phone, asyncio.Queue[Push]().put)
    answer = await official.run(
        """
        const sent = await pushy.sendPushNotification({n: 1}, tokens);
        say({
            sent, info: await pushy.getDeviceInfo(tokens[0]), presence: await pushy.getDevicePresence(tokens),
            single: await pushy.getDevicePresence(tokens[1]),
            noDevice: await failure(pushy.getDeviceInfo('nobody')),
            nobody: await failure(pushy.getDevicePresence('nobody')),
        });
        """,
        one,
        phone,
    )
    info, presence = answer["info"], answer["presence"]
    assert info["device"]["platform"] == "android"
    assert info["presence"]["online"] is False
    assert info["presence"]["last_active"]["seconds_ago"] >= 0
    (pending,) = info["pending_notifications"]
    assert (pending["id"], pending["payload"]) == (answer["sent"]["id"], {"n": 1})
    assert info["subscriptions"] == []
    assert [(entry["id"], entry["online"]) for entry in presence] == [(one, False), (phone, True)]
    assert presence[0]["last_active"] == info["presence"]["last_active"]["date"]
    assert [entry["id"] for entry in answer["single"]] == [phone]
    assert answer["noDevice"]["code"] == answer["nobody"]["code"] == "NO_RESULTS"


async def test_topics(official: Official) -> None:
    one = await official.pushy.register(KEY, "d1")
    answer = await official.run(
        """
        await pushy.subscribe(['news', 'weather'], tokens[0]);
        await pushy.unsubscribe('weather', tokens[0]);
        const sent = await pushy.sendPushNotification({n: 1}, '/topics/news');
        say({sent, topics: await pushy.getTopics(), subscribers: await pushy.getSubscribers('news'),
             info: await pushy.getDeviceInfo(tokens[0])});
        """,
        one,
    )
    assert answer["sent"]["info"]["devices"] == 1
    assert answer["topics"] == {"topics": [{"name": "news", "subscribers": 1}]}
    assert answer["subscribers"]["subscribers"] == [one]
    assert answer["info"]["subscriptions"] == ["news"]


async def test_errors(kernel: Kernel, official: Official) -> None:
    one = await official.pushy.register(KEY, "d1")
    answer = await official.run(
        """
        say({
            nobody: await failure(pushy.sendPushNotification({n: 1}, 'nobody')),
            large: await failure(pushy.sendPushNotification({n: 'x'.repeat(5000)}, tokens)),
            collapse: await failure(pushy.sendPushNotification({n: 1}, tokens, {collapse_key: 'k'.repeat(33)})),
        });
        """,
        one,
    )
    codes = {name: error["code"] for name, error in answer.items()}
    assert codes == {"nobody": "NO_RECIPIENTS", "large": "PAYLOAD_LIMIT_EXCEEDED", "collapse": "INVALID_PARAM"}
    kernel.faults.replace([{"service": "pushy", "action": {"status": 429, "retryAfter": 1}}])
    limited = await official.run("say(await failure(pushy.sendPushNotification({n: 1}, tokens)));", one)
    assert limited["code"] == "RATE_LIMIT_EXCEEDED"


async def test_another_key_sees_nothing(official: Official) -> None:
    one = await official.pushy.register(KEY, "d1")
    sent = await official.run("say(await pushy.sendPushNotification({n: 1}, tokens));", one)
    other = """
        say({
            status: await failure(pushy.getNotificationStatus(tokens[0])),
            info: await failure(pushy.getDeviceInfo(tokens[1])),
        });
    """
    answer = await official.run(other, sent["id"], one, key="another1")
    assert (answer["status"]["code"], answer["info"]["code"]) == ("INVALID_PUSH_ID", "NO_RESULTS")
