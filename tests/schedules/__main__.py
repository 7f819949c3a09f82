"""Play schedules again and tell what happens: `python -m tests.schedules SEED …`."""

import sys

from tests.schedules.run import Stage


def main() -> int:
    """1 where a record lies."""
    stage = Stage()
    endings = [stage.play(int(seed), traced=True) for seed in sys.argv[1:]]
    for ending in endings:
        print(f"seed {ending.seed}", *ending.log, ending.text, *(f"LIE {lie}" for lie in ending.lies), sep="\n")
    return int(any(ending.lies for ending in endings))


if __name__ == "__main__":
    sys.exit(main())
