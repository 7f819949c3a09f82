from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from heliograph_lab.kernel import Kernel, StateDirInUseError
from heliograph_lab.requests import RequestLog
from heliograph_lab.state import entry

# Writes entries, says each one's number once it is on disk, and is killed at some point.
WRITER = """
import asyncio, sys
from pathlib import Path
from heliograph_lab.kernel import Kernel

async def main():
    kernel = Kernel(Path(sys.argv[1]))
    async def write(n):
        await kernel.journal.write("d", "executed", command_id=str(n), type="LOCK")
        sys.stdout.write(f"{n}\\n")
        sys.stdout.flush()
    for n in range(0, 1_000_000, 10):
        await asyncio.gather(*(write(n + k) for k in range(10)))

asyncio.run(main())
"""


def test_what_is_written_survives_sigkill(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    said = [writer.stdout.readline().strip() for _ in range(100)]
    writer.kill()
    said += writer.stdout.read().split()
    writer.stdout.close()
    assert writer.wait() == -9
    kernel = Kernel(tmp_path)
    written = [item.command_id for item in kernel.journal.items("d")]
    kernel.close()
    assert set(said) <= set(written)
    assert len(written) == len(set(written))


async def test_journal_order_and_look_up(kernel: Kernel) -> None:
    await kernel.journal.write("d", "received", command_id="c1", type="LOCK")
    await kernel.journal.write("d", "executed", command_id="c1", type="LOCK")
    await kernel.journal.write("e", "executed", operation="enterprises/x/devices/y/operations/1", type="LOCK")
    await kernel.journal.write("d", "displayed", push_id="p", title="t", body="b", data={"k": 1})
    assert [item.event for item in kernel.journal.items("d")] == ["received", "executed", "displayed"]
    assert kernel.journal.executed("d", command_id="c1")
    assert not kernel.journal.executed("e", command_id="c1")
    assert kernel.journal.executed("e", operation="enterprises/x/devices/y/operations/1")
    assert kernel.journal.displayed("d", "p")
    assert kernel.journal.items("d")[2].data == {"k": 1}


async def test_many_writes_share_commits(kernel: Kernel) -> None:
    await asyncio.gather(*(kernel.journal.write("d", "executed", command_id=str(n)) for n in range(3000)))
    assert [item.command_id for item in kernel.journal.items("d")] == [str(n) for n in range(3000)]


async def test_commit_is_all_or_nothing(kernel: Kernel) -> None:
    await kernel.commit(journal=[entry("d", "executed", operation="o")], puts=[("ops", "o", {"done": True})])
    assert kernel.journal.executed("d", operation="o")
    assert kernel.state.get("ops", "o") == {"done": True}
    with pytest.raises(TypeError):
        await kernel.commit(puts=[("ops", "p", 1), ("ops", "q", object())])
    assert kernel.state.all("ops") == {"o": {"done": True}}


async def test_a_failing_write_takes_no_neighbour_with_it(kernel: Kernel) -> None:
    bad = kernel.commit(deletes=[("too", "many", "members")])  # type: ignore[list-item]
    good = kernel.state.put("ns", "k", 1)
    results = await asyncio.gather(bad, good, return_exceptions=True)
    assert isinstance(results[0], Exception)
    assert kernel.state.get("ns", "k") == 1


async def test_state_survives_a_restart(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    await kernel.state.put_many([("a", "1", [1]), ("a", "2", None), ("b", "1", "x")])
    await kernel.state.delete("a", "1")
    await kernel.clock.advance(3600)
    kernel.close()
    kernel = Kernel(tmp_path)
    assert kernel.state.all("a") == {"2": None}
    assert kernel.state.get("b", "1") == "x"
    assert kernel.clock.offset == 3600
    kernel.close()


def test_a_directory_admits_one(kernel: Kernel) -> None:
    with pytest.raises(StateDirInUseError, match="in use"):
        Kernel(kernel.state_dir)


async def test_clock_wakes_sleepers_when_advanced(kernel: Kernel) -> None:
    clock = kernel.clock
    until = clock.now() + timedelta(days=1)
    sleeper = asyncio.create_task(clock.sleep_until(until))
    await clock.advance(3600)
    assert not sleeper.done()
    await clock.advance(86_400)
    await asyncio.wait_for(sleeper, 10)
    assert clock.now() >= until
    await clock.sleep_until(until)  # the past: at once


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 1e300])
async def test_clock_never_goes_back(kernel: Kernel, seconds: float) -> None:
    with pytest.raises(ValueError, match="clock"):
        await kernel.clock.advance(seconds)
    assert kernel.clock.offset == 0


def test_request_log_keeps_the_newest() -> None:
    log = RequestLog(newest=3)
    for n in range(5):
        log.record("pushy", method="GET", path=f"/{n}", query="", headers={}, body=b"")
    log.record("amapi", method="GET", path="/a", query="", headers={}, body=b"")
    assert [item.path for item in log.items("pushy")] == ["/2", "/3", "/4"]
    assert [item.path for item in log.items()] == ["/2", "/3", "/4", "/a"]
    small = RequestLog(most_bytes=10)
    for n in range(3):
        small.record("fcm", method="POST", path=f"/{n}", query="", headers={}, body=b"123456")
    assert [item.path for item in small.items("fcm")] == ["/2"]
