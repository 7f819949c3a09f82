"""The simulated device: its file is its effect, so what it says of an effect is what the file has."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from heliograph_agent.effector import SimulatedEffector
from heliograph_protocol.messages import PushOffer


def failing(*_: object) -> None:
    raise OSError(5, "Input/output error")


async def test_an_effect_stands_although_the_sync_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "simulated"
    device = SimulatedEffector(path)
    push = PushOffer(id="p1", kind="notification", expires_in_ms=1000)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(OSError, match="Input/output"):
            await device.execute("c1", "REBOOT", {})
        with pytest.raises(OSError, match="Input/output"):
            await device.display(push)
    assert device.already_executed("c1") is SimulatedEffector(path).already_executed("c1") is True
    await device.display(push)
    assert path.read_text().count('"displayed"') == 1


def piecewise(size: int, room: int) -> Callable[[int, bytes], int]:
    """A disk that takes `size` bytes at a time, and `room` in all."""
    write, left = os.write, room

    def some(file: int, data: bytes) -> int:
        nonlocal left
        if left <= 0:
            raise OSError(28, "No space left on device")
        written = write(file, data[: min(size, left)])
        left -= written
        return written

    return some


async def test_a_write_that_takes_only_a_part_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "simulated"
    device = SimulatedEffector(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", piecewise(size=10, room=100_000))
        await device.execute("c1", "REBOOT", {})
    assert device.already_executed("c1") is SimulatedEffector(path).already_executed("c1") is True


async def test_an_effect_that_the_disk_cut_is_told_as_the_file_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    await SimulatedEffector(whole).execute("c1", "REBOOT", {})
    size = whole.stat().st_size
    for room in (size // 2, size - 2, size - 1):
        path = tmp_path / f"cut-{room}"
        device = SimulatedEffector(path)
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", piecewise(size=size, room=room))
            with pytest.raises(OSError, match="No space"):
                await device.execute("c1", "REBOOT", {})
        assert device.already_executed("c1") is SimulatedEffector(path).already_executed("c1") is (room == size - 1)
        await device.execute("c2", "REBOOT", {})
        assert SimulatedEffector(path).already_executed("c2")
