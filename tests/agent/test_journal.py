"""The file: what a crash can leave of it, its lock, its size."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from heliograph_agent import JournalError, JournalInUse, clock
from heliograph_agent import journal as module
from heliograph_agent.journal import Journal
from heliograph_agent.ledger import Ledger
from heliograph_agent.records import CommandRecord, Record
from heliograph_protocol.messages import CheckIn, ClaimedCommand, Report
from tests.agent.conftest import Device, Running
from tests.agent.fake_server import FakeServer

DAY = 86400.0


def command(number: int, **params: Any) -> ClaimedCommand:
    return ClaimedCommand(id=f"c{number}", type="LOCK", expires_in_ms=600_000, params=params)


class Life:
    """A ledger over a journal, as one run of an agent has them."""

    def __init__(self, path: Path, keep_entries: int = 1000) -> None:
        self.ledger = Ledger(90 * DAY, keep_entries)
        self.journal = Journal(path, self.ledger.snapshot)
        self.stale = self.ledger.load(self.journal, self.journal.open())

    async def live_through(self, number: int, **params: Any) -> None:
        """Take on, run and settle a command."""
        record = self.ledger.take_on(command(number, **params), clock.elapsed())
        self.ledger.ready(record)
        assert self.ledger.begin_next() is record
        await self.journal.commit()
        report = Report(command_id=record.id, rung="succeeded", at="2026-01-01T00:00:00Z")
        self.ledger.finish(record, report)
        await self.journal.commit()
        acknowledged = Report(command_id=record.id, rung="acknowledged", at="")
        self.ledger.settle(CheckIn(reports=[acknowledged, report]), next_seq=2)
        await self.journal.commit()


async def test_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    life = Life(path)
    await life.live_through(1)
    await life.journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"of":"command","id":"c2","sta')
    life = Life(path)
    assert set(life.ledger.commands) == {"c1"}
    assert life.journal.damaged == 0
    life.ledger.take_on(command(3), clock.elapsed())
    await life.journal.close()
    life = Life(path)
    assert set(life.ledger.commands) == {"c1", "c3"}
    await life.journal.close()


async def test_a_damaged_line_costs_no_other_and_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    life = Life(path)
    await life.live_through(1)
    await life.journal.close()
    head, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(head + b"\x00" * 20 + b"\n" + b"".join(rest))
    life = Life(path)
    assert life.journal.damaged == 1
    assert life.ledger.commands["c1"].stage == "finished"
    await life.journal.close()


@pytest.mark.parametrize("damage", [b"\xff\n", b"\x8a"])
async def test_a_damaged_journal_is_another_one_with_what_is_left(tmp_path: Path, damage: bytes) -> None:
    """Whatever its lost lines said, the server must not take its word for it. A crash before it has its new name on
    disk leaves it as damaged as it was.
    """
    path = tmp_path / "journal"
    life = Life(path)
    await life.live_through(1)
    name = life.journal.name
    await life.journal.close()
    data = path.read_bytes()
    path.write_bytes(data[:-1] + damage if damage == b"\x8a" else data + damage)
    for _ in range(2):
        life = Life(path)
        assert (life.journal.damaged, life.journal.is_named) == (1, False)
        assert life.journal.name not in ("", name)
        await life.journal.close()
    life = Life(path)
    await life.journal.rewrite()
    await life.live_through(2)
    name = life.journal.name
    await life.journal.close()
    life = Life(path)
    assert (life.journal.damaged, life.journal.is_named, life.journal.name) == (0, True, name)
    assert {"c1", "c2"} <= set(life.ledger.commands)
    await life.journal.close()


async def test_a_command_whose_params_are_damaged_is_not_run(
    server: FakeServer, device: Device, running: Running, journal: Path
) -> None:
    device.gates["first"] = asyncio.Event()
    device.knows["first"] = False
    first = await server.command("first", newPassword="hunter22")
    async with running():
        await device.began.wait()
    data = journal.read_bytes()
    journal.write_bytes(data.replace(b'"newPassword":"hunter22"', b'"newPassword:"hunter22""'))
    async with running():
        await server.until(lambda: first.over)
    assert first.reports[-1].error is not None
    assert first.reports[-1].error.code == "JOURNAL_DAMAGED"
    assert device.executed == ["first"]


async def test_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b'{"of":"journal","version":2}\n')
    with pytest.raises(JournalError, match="another version"):
        Life(path)


async def test_secrets_that_a_crash_left_are_found(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    life = Life(path)
    record = life.ledger.take_on(command(1, newPassword="hunter22"), clock.elapsed())
    await life.journal.commit()
    line = next(line for line in path.read_bytes().splitlines(keepends=True) if b"hunter22" in line)
    life.ledger.fail(record, "NO", "no")
    await life.journal.close()
    assert b"hunter22" not in path.read_bytes()
    # Put it back, as if the process had died after the end was on disk and before the params were blanked.
    data = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(data[0] + line + data[2])
    life = Life(path)
    assert life.stale
    await life.journal.rewrite()
    assert b"hunter22" not in path.read_bytes()
    await life.journal.close()


async def test_secrets_of_a_rewrite_that_a_crash_cut_off_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    life = Life(path)
    life.ledger.take_on(command(1, newPassword="hunter22"), clock.elapsed())
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(5, "killed here")))
        with pytest.raises(JournalError):
            await life.journal.rewrite()
    await life.journal.close()
    assert any(b"hunter22" in file.read_bytes() for file in tmp_path.iterdir())
    life = Life(path)
    await life.live_through(2, newPassword="hunter22")
    await life.journal.close()
    assert not any(b"hunter22" in file.read_bytes() for file in tmp_path.iterdir())


async def test_the_file_stays_bounded_and_the_lock_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SLACK", 50)
    path = tmp_path / "journal"
    life = Life(path, keep_entries=10)
    life.journal._limit = 50
    waiting = life.ledger.take_on(command(0, newPassword="hunter22"), clock.elapsed())
    for number in range(1, 200):
        await life.live_through(number, newPassword="hunter22")
    assert len(path.read_bytes().splitlines()) < 200
    # Only the newest settled ids are kept, and all that are not settled.
    await life.journal.rewrite()
    assert set(life.ledger.commands) == {"c0", *(f"c{number}" for number in range(190, 200))}
    with pytest.raises(JournalInUse):
        Life(path)
    # The params of a command that waits moved with it, and are blanked where they are now.
    assert path.read_bytes().count(b"hunter22") == 1
    life.ledger.fail(waiting, "NO", "no")
    await life.journal.commit()
    assert b"hunter22" not in path.read_bytes()
    await life.journal.close()
    life = Life(path)
    assert len(life.ledger.commands) == 11
    assert life.journal.damaged == 0
    await life.journal.close()


async def test_old_settled_ids_are_forgotten_after_90_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    life = Life(tmp_path / "journal")
    await life.live_through(1)
    life.ledger.cancel("c2")  # the answer is never confirmed
    life.ledger.see("p1", shows=False)
    real = clock.wall
    monkeypatch.setattr(clock, "wall", lambda: real() + 89 * DAY)
    assert {record.id for record in life.ledger.snapshot()} == {"c1", "c2", "p1"}
    monkeypatch.setattr(clock, "wall", lambda: real() + 91 * DAY)
    assert {record.id for record in life.ledger.snapshot()} == {"c2", "p1"}
    await life.journal.close()


async def test_a_disk_that_fails_stops_answers_and_effects_until_it_works(
    server: FakeServer, device: Device, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[int] = []
    write = module._pwrite_all

    def failing(file: int, data: bytes, at: int) -> None:
        if b"received" in data and len(failures) < 2:
            failures.append(at)
            write(file, data[:10], at)
            raise OSError(28, "No space left on device")
        write(file, data, at)

    monkeypatch.setattr(module, "_pwrite_all", failing)
    command = await server.command("c1")
    async with running():
        await server.until(lambda: command.over)
    assert len(failures) == 2
    assert device.executed == ["c1"]
    assert command.path == ["acknowledged", "succeeded"]


async def test_a_commit_that_is_cancelled_is_not_overtaken(tmp_path: Path) -> None:
    records: list[Record] = [CommandRecord(id=f"c{number}", stage="cancelled", at=0.0) for number in range(2)]
    journal = Journal(tmp_path / "journal", list)
    journal.open()
    journal.put(records[0])
    first = asyncio.ensure_future(journal.commit())
    await asyncio.sleep(0)
    first.cancel()
    journal.put(records[1])
    await journal.commit()
    assert first.cancelled()
    await journal.close()
    again = Journal(tmp_path / "journal", list)
    assert [record.id for record in again.open()] == ["c0", "c1"]
    await again.close()


@pytest.mark.parametrize(("line", "way"), [("websocket", "websocket"), ("poll", "http"), ("none", "http")])
async def test_a_journal_keeps_its_name_and_the_server_is_told_it(
    server: FakeServer, running: Running, journal: Path, line: str, way: str
) -> None:
    for life in range(2):
        before = len(server.check_ins)
        async with running(line=line):
            await server.until(lambda before=before: len(server.check_ins) > before)  # type: ignore[misc]
        assert {told for told, _ in server.journals} == {way}
        assert len({name for _, name in server.journals}) == 1, life
    async with running(line=line, state_path=journal.with_name("other")):
        await server.until(lambda: len({name for _, name in server.journals}) == 2)


async def test_a_new_journal_has_its_name_on_disk_before_anybody_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []
    path = tmp_path / "journal"
    monkeypatch.setattr(module, "_sync", lambda _: synced.append(path.read_bytes()))
    journal = Journal(path, list)
    journal.open()
    assert [journal.name.encode() in data for data in synced] == [True]
    await journal.close()


async def test_a_journal_of_an_earlier_version_is_given_a_name(
    server: FakeServer, running: Running, journal: Path
) -> None:
    journal.write_bytes(b'{"of":"journal","version":1}\n{"of":"command","id":"c1","stage":"finished","at":1.0}\n')
    async with running():
        await server.until(lambda: bool(server.check_ins))
    [(_, name)] = server.journals
    assert name
    again = Journal(journal, list)
    again.open()
    assert (again.name, again.is_named) == (name, True)
    await again.close()
