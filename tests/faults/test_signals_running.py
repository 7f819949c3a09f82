"""A signal under load: whoever waits is answered, what is in flight is recorded, and the next start goes on with it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections import Counter

import httpx2
import psutil
import pytest

from tests.support.client import Json, data_of, fault, until
from tests.support.demo import Demo, Server


def executed(demo: Demo, name: str, record: Json) -> int:
    """How often the device says that it carried out a command."""
    key = record["_config"]["name"] if demo[name].platform == "android" else record["id"]
    journal = demo.lab.journal(demo[name], "executed")
    return Counter(item.get("operation") or item.get("commandId") for item in journal)[key]


def connections(demo: Demo) -> set[int]:
    """Those from here that the server has accepted, by our port. It has others, too, which come and go: of agents."""
    ours = {line.laddr.port for line in psutil.Process().net_connections("tcp")}
    theirs = psutil.Process(demo.process.pid).net_connections("tcp")
    return {line.raddr.port for line in theirs if line.status == psutil.CONN_ESTABLISHED} & ours


def in_flight(demo: Demo) -> dict[str, Json]:
    """Commands by device: two run at once, one hangs on its way to Google, one has nobody to run it."""
    hangs, path = demo["android-online"], "issueCommand$"
    demo.lab._ask("PUT", "/faults", [fault("amapi", path, delayMs=60_000, times=1)])  # they end with the lab
    made = {"android-online": demo.api.create(hangs, "LOCK")}
    until(lambda: [r for r in demo.lab.requests("amapi") if r["path"].endswith(":issueCommand")], bool)
    for name in ("aosp-builtin-online", "aosp-pushy-online", "aosp-builtin-offline"):
        made[name] = demo.api.create(demo[name], "REBOOT")
    return made


@pytest.mark.sqlite_only
def test_with_commands_in_flight_and_waits_open(fresh_demo: Demo) -> None:
    demo = fresh_demo
    before, made = demo.ready, in_flight(demo)
    device, command = demo["aosp-builtin-offline"], made["aosp-builtin-offline"]
    answers: list[httpx2.Response] = []

    def wait() -> None:
        with contextlib.suppress(httpx2.TransportError):  # one that came too late finds the door closed
            answers.append(demo.api.get(f"{device.commands}/{command['id']}", wait=30))

    lines = connections(demo)
    waiting = [threading.Thread(target=wait) for _ in range(5)]
    for thread in waiting:
        thread.start()
    until(lambda: connections(demo) - lines, lambda more: len(more) >= 4)  # the client has one already, perhaps
    demo.bare.get("/healthz")
    Server.end(demo, signal.SIGINT)
    for thread in waiting:
        thread.join()
    assert answers
    assert {data_of(answer)["status"] for answer in answers} == {"PENDING"}
    demo._close()
    again = demo.start()
    assert again | {"pids": {}} == before | {"pids": {}}
    demo.lab.put(device, online=True)
    for name, record in made.items():
        over = demo.api.over(demo[name], record["id"])
        assert (over["status"], executed(demo, name, over)) == ("DONE", 1), over
