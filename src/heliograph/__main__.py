"""Entry point. Imports next to nothing before it is settled what a signal means: the server's imports take a second."""

import os
import sys

from heliograph.cli.signals import end_when_signalled, quiet_until_loaded

_SERVING = ("up", "serve")


def main() -> None:
    """Carry out the command line of this process."""
    os.umask(0o077)  # keys, databases and journals are for their user alone
    if sys.argv[1:2] and sys.argv[1] in _SERVING:
        end_when_signalled()
        from heliograph.cli.main import run
    else:
        with quiet_until_loaded():
            from heliograph.cli.main import run
    sys.exit(run())


if __name__ == "__main__":
    main()
