"""Messages and addresses to push with, and what every `test_<kind>.py` states about its provider."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from heliograph.domain.devices import PushTarget
from heliograph.ports.push import PushMessage, Tools
from heliograph.providers.transport import Connections
from heliograph.system import SystemClock
from tests.support.wire import Wire


def tools() -> Tools:
    """What a provider is built with, of its own event loop."""
    clock = SystemClock()
    return Tools(clock, Connections(clock))


WAKE = PushMessage(id="a" * 24, kind="wake", life_s=3600, command_id="b" * 24)
NOTIFICATION = PushMessage(
    id="c" * 24, kind="notification", life_s=60, title="Hello", body="Wörld", data={"nested": {"n": [1, None]}}
)
SILENT = PushMessage(id="d" * 24, kind="silent", life_s=1, body="")
MESSAGES = (WAKE, NOTIFICATION, SILENT)


@dataclass(frozen=True)
class Contract:
    """What `tests/providers/test_<kind>.py` gives as `contract(url)`, for the tests that run over every provider.

    `config`: settings as an operator writes them, leading to the server at `url`. `secrets`: whatever of it, or of
    `token`, must never be shown. `is_remote`: it speaks to a server. `wrong`: settings that must be refused.
    `bad_tokens`: what is no address of one device of `token_kind` (empty = the usual kind).
    `reference` names a push that the service has taken, as the service would have named it.
    `probes_nobody`: no service can be asked whether the account works. `speak` has the server speak the provider's
    protocol, where that is not HTTP, up to where an answer to a push counts. `over_http2`: `url` is to be a server that
    speaks HTTP/2, with a certificate of `tests.support.wire_http2`. `backs_off`: after a bad answer it asks no more for
    a while.

    Access tokens come from the same server by the answers in `grants`, by path (whatever is tested with them is tested
    without them as well), or over HTTP/1.1 from another, which the setting `tokens` names.
    """

    config: dict[str, Any]
    secrets: list[str]
    token: str
    is_remote: bool = True
    wrong: list[dict[str, Any]] = field(default_factory=list)
    bad_tokens: list[str] = field(default_factory=list)
    token_kind: str = ""
    reference: str = "reference"
    probes_nobody: bool = False
    backs_off: bool = False
    speak: Callable[[Wire], None] = lambda wire: None
    grants: dict[str, bytes] = field(default_factory=dict)
    over_http2: bool = False
    tokens: str = ""


def target(kind: str, token: str) -> PushTarget:
    return PushTarget("e" * 24, "mdmAgent", kind, "f" * 24, token, 0)
