"""Files that hold keys."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from heliograph.cli.private_files import write_private


def test_a_file_is_its_owners_alone_and_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    path.write_text("before")
    path.chmod(0o644)
    write_private(path, b"after")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"after", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_that_was_laid_out_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    path = tmp_path / "ready.json"
    for trap in (path, path.with_name(f".{path.name}.{os.getpid()}")):
        trap.symlink_to(precious)
    write_private(path, b"secret")
    assert precious.read_text() == "kept"
    assert not path.is_symlink()


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    path.mkdir()
    (path / "content").touch()
    with pytest.raises(OSError, match="irectory"):
        write_private(path, b"secret")
    assert list(tmp_path.iterdir()) == [path]
