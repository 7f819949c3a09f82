"""`python -m heliograph_lab`: the lab as a process of its own."""

import os
import signal
import sys


def _end(_number: int, _frame: object) -> None:
    os._exit(0)


if __name__ == "__main__":
    # Until the event loop has handlers of its own there is nothing to finish, and a traceback helps nobody.
    signal.signal(signal.SIGINT, _end)
    signal.signal(signal.SIGTERM, _end)

    from heliograph_lab.serve import main

    sys.exit(main())
