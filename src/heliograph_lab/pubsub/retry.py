"""How long a message rests after it was not taken."""

from heliograph_lab.amapi.wire import parse_duration
from heliograph_lab.pubsub.model import Subscription

PUSH_LEAST, PUSH_MOST = 0.1, 60.0  # documented for pushes without a retry policy


def backoff(subscription: Subscription, attempts: int = 1) -> float:
    """Seconds of the lab's clock, doubling with each attempt between the policy's bounds; without one 0 for pulls."""
    policy = subscription.retry_policy
    if policy is not None:
        least, most = _seconds(policy.minimum_backoff), _seconds(policy.maximum_backoff)
    elif subscription.endpoint:
        least, most = PUSH_LEAST, PUSH_MOST
    else:
        return 0.0
    return float(min(most, least * 2 ** min(attempts - 1, 30)))


def _seconds(text: str) -> float:
    duration = parse_duration(text)
    return duration.total_seconds() if duration is not None else 0.0
