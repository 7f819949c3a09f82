from __future__ import annotations

import socket
from pathlib import Path

import pytest

from heliograph_lab import ports
from heliograph_lab.transport import ListenError

HOST = "127.0.0.1"


def chosen() -> int:
    with ports.bind_lasting(HOST, "a test") as bound:
        assert bound.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        return int(bound.getsockname()[1])


@pytest.mark.parametrize(("says", "below"), [("20000\t60999\n", 20_000), ("", 49_152), (None, 49_152)])
def test_no_connection_takes_it_between_two_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str | None, below: int
) -> None:
    monkeypatch.setattr(ports, "_OF_CONNECTIONS", tmp_path / "range")
    if says is not None:
        (tmp_path / "range").write_text(says)
    assert all(10_000 <= chosen() < below for _ in range(20))


def test_where_connections_may_have_any_port_the_kernel_chooses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "_OF_CONNECTIONS", tmp_path / "range")
    (tmp_path / "range").write_text("1024\t65535\n")
    assert chosen() >= 1024


def test_one_that_is_taken_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with ports.bind_lasting(HOST, "another") as taken:
        port = int(taken.getsockname()[1])
        numbers = iter([port, port, port + 1, *range(30_000, 30_100)])
        monkeypatch.setattr("random.randrange", lambda *_: next(numbers))
        assert chosen() != port


def test_an_address_of_another_machine_is_refused_with_the_reason() -> None:
    with pytest.raises(ListenError, match=r"203\.0\.113\.7.*a test"):
        ports.bind_lasting("203.0.113.7", "a test")
