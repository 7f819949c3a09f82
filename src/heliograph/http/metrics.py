"""Figures for Prometheus. Labels are bounded: route templates, methods and status codes, never an id."""

from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

REGISTRY = CollectorRegistry()
REQUESTS = Counter("heliograph_http_requests_total", "HTTP requests", ["method", "route", "status"], registry=REGISTRY)
REQUEST_SECONDS = Histogram(
    "heliograph_http_request_seconds",
    "Time to answer an HTTP request, waits asked for by the client included",
    ["route"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 30),
    registry=REGISTRY,
)
AGENTS = Gauge("heliograph_agents_connected", "Agents that hold a WebSocket on this process", registry=REGISTRY)
CHECK_INS = Counter("heliograph_agent_check_ins_total", "Check-ins of agents", registry=REGISTRY)
OWED = Gauge("heliograph_outbox_owed", "Effects owed, by kind", ["kind"], registry=REGISTRY)
DEAD = Gauge("heliograph_dead_letters", "Effects that were given up", registry=REGISTRY)
LIVE = Gauge("heliograph_commands_live", "Commands that are not over", registry=REGISTRY)

ACCOUNTS = Gauge("heliograph_push_accounts_out_of_order", "Push accounts that are refused", registry=REGISTRY)
CREDENTIALS = Gauge(
    "heliograph_push_credentials_expire_timestamp_seconds",
    "When the first credentials of a push account end (Unix time); 0 = none that say so",
    registry=REGISTRY,
)
ROUNDS = Gauge(
    "heliograph_reconcile_rounds",
    "Rounds that the reconciler has begun, all processes together, by what it compares",
    ["kind"],
    registry=REGISTRY,
)
ROUND_FAULTS = Gauge("heliograph_reconcile_faults", "Those of them that a fault has ended", ["kind"], registry=REGISTRY)


@cache
def requests_of(method: str, route: str, status: str) -> Counter:
    """The counter of one kind of answer. As few as there are labels, so they are kept: finding one takes long."""
    return REQUESTS.labels(method, route, status)


@cache
def seconds_of(route: str) -> Histogram:
    """The times of one route."""
    return REQUEST_SECONDS.labels(route)


def exposition(counts: dict[str, int]) -> bytes:
    """The text format, with the store's figures of this moment."""
    DEAD.set(counts.get("dead_letters", 0))
    LIVE.set(counts.get("commands_live", 0))
    ACCOUNTS.set(counts.get("push_accounts_out_of_order", 0))
    CREDENTIALS.set(counts.get("push_credentials_expire_at", 0) / 1e6)
    OWED.clear()
    labelled = {"outbox_": OWED, "rounds_begun_": ROUNDS, "rounds_failed_": ROUND_FAULTS}
    for name, value in counts.items():
        for prefix, gauge in labelled.items():
            if name.startswith(prefix):
                gauge.labels(name.removeprefix(prefix)).set(value)
    return generate_latest(REGISTRY)
