"""How long a command that a device put off is not handed out again. Times are microseconds."""

SECOND = 1_000_000
FIRST_US = 5 * SECOND
CAP_US = 900 * SECOND
SHORTEST_WISH_US = 1 * SECOND
LONGEST_WISH_US = 6 * 3600 * SECOND
FREE_WISHES = 10
"""So often a short wish is granted as it is: each pause costs a wake-up, and nobody else ends what a device repeats."""


def pause_us(deferrals: int, wish_us: int | None) -> int:
    """The pause after `deferrals` earlier ones: doubled each time up to a cap, or the device's wish within bounds."""
    if wish_us is not None:
        shortest = min(SHORTEST_WISH_US << min(max(0, deferrals - FREE_WISHES), 16), CAP_US)
        return min(max(wish_us, shortest), LONGEST_WISH_US)
    return min(FIRST_US << min(deferrals, 16), CAP_US)
