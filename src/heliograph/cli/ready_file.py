"""The ready file: where one can be written is settled before anything starts."""

import os
from pathlib import Path

from heliograph.cli.exits import usage


def see_that_it_can_be_written(path: Path | None) -> None:
    """Raises Failure where a ready file could not be written later."""
    if path is None:
        return
    folder = path.parent
    if not folder.is_dir():
        raise usage(f"--ready-file: there is no directory {folder}")
    if path.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise usage(f"--ready-file: {path} cannot be written")


def forget(path: Path | None) -> None:
    """Remove that of an earlier start: it would mislead whoever waits for it. Raises Failure."""
    see_that_it_can_be_written(path)
    try:
        if path is not None:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise usage(f"--ready-file: {path} cannot be replaced: {error.strerror}") from None
