"""What all tests share."""

from __future__ import annotations

import signal

# What a shell starts in the background ignores Ctrl-C, and hands that on to its children; our tests send it to theirs.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["tests.support.postgres", "tests.support.demo", "tests.support.crash"]
