"""How long a command that a device put off is not handed out again. Times are microseconds."""

SECOND = 1_000_000
FIRST_US = 5 * SECOND
CAP_US = 900 * SECOND
SHORTEST_WISH_US = 1 * SECOND
LONGEST_WISH_US = 6 * 3600 * SECOND


def pause_us(deferrals: int, wish_us: int | None) -> int:
    """The pause after `deferrals` earlier ones: doubled each time up to a cap, or the device's wish within bounds."""
    if wish_us is not None:
        return min(max(wish_us, SHORTEST_WISH_US), LONGEST_WISH_US)
    return min(FIRST_US << min(deferrals, 16), CAP_US)
