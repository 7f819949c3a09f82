"""What an agent has to be told."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from heliograph_protocol.messages import MAX_ITEMS, Target

LineKind = Literal["websocket", "poll", "mqtt", "none"]
VERSION = "0.1.0"


@dataclass(frozen=True, kw_only=True)
class Broker:
    """An MQTT 5 broker at which pushes wait, and how this device is known there. Times are in seconds.

    `url`: mqtt://host:port, or mqtts:// with TLS. `username` None = the device's id. `topic_prefix` is that of the
    server's account. `session_s`: how long the broker shall keep what comes for a device that is away.
    """

    url: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    topic_prefix: str = "heliograph"
    session_s: int = 30 * 86400
    keepalive_s: int = 60

    def __post_init__(self) -> None:
        """Raise ValueError for a URL that is none of a broker."""
        if not self.url.startswith(("mqtt://", "mqtts://")):
            raise ValueError("the broker's URL must begin with mqtt:// or mqtts://")


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """One agent: one app on one device. Times are in seconds.

    `line` is how the server reaches it: `websocket` holds a connection, `poll` holds a long poll, `none` checks in
    only when woken (by a push of another provider), when it has something to report, and at the server's interval;
    `mqtt` does the same, and is woken by `broker`.
    `state_path` is the journal, one file, which one agent at a time may hold.
    """

    server_url: str
    secret: str = field(repr=False)
    state_path: Path
    app: str = "mdmAgent"
    line: LineKind = "websocket"
    broker: Broker | None = None
    targets: list[Target] = field(default_factory=list)
    agent_version: str = VERSION
    durable: bool = True  # fsync each commit; without it the journal survives the process, but not a power cut
    claim: int = 16  # commands it takes on at most before it has begun them
    running_after: float = 1.0  # an effect that lasts longer is reported as running
    grace: float = 5.0  # how long a cancelled `run` waits for an effect that has begun
    backoff_base: float = 0.25
    backoff_cap: float = 5.0
    refused_cap: float = 60.0  # between attempts when the server does not know the secret
    answer_timeout: float = 30.0
    poll_wait: float = 50.0
    ping: float | None = 30.0  # WebSocket keep-alive; None leaves it to the server
    keep_days: float = 90.0  # how long settled ids are remembered
    keep_entries: int = 100_000  # and how many of them
    use_proxy: bool = False  # take a proxy from the environment
    ssl_context: ssl.SSLContext | None = None  # None = the system's authorities

    def __post_init__(self) -> None:
        """Raise ValueError for what cannot work."""
        if not self.server_url.startswith(("http://", "https://")):
            raise ValueError("server_url must begin with http:// or https://")
        if self.line == "mqtt" and self.broker is None:
            raise ValueError("the line mqtt needs a broker")
        if not 1 <= self.claim <= MAX_ITEMS:
            raise ValueError(f"claim must be between 1 and {MAX_ITEMS}")
