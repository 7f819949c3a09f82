"""The agent line, version 1: one conversation, carried by a WebSocket or by plain HTTP.

An agent speaks for one app on one device and proves itself with the device's own secret
(`Authorization: Bearer <secret>`). It sends `CheckIn`; the server answers each with `Orders`. Over a WebSocket
the server also sends `Orders` unasked (`seq` 0) when something waits. The rules that make it lose nothing:

* A push only wakes. What authorises running is the claim, which the server has committed before it answers.
* What a claim gave to an agent is that agent's alone: by the name of its journal (query: journal) the server knows
  it from another with the same secret, which is neither handed the command nor asked to cancel it.
* The server offers a push again on every connection until the agent has acknowledged its id, and hands out a
  claimed command again until the agent has reported `acknowledged` for it. The agent drops what its journal knows.
* A report is repeated by the agent until an `Orders` with the check-in's `seq` came back; the server takes a
  repeated report as the same fact.
* The agent writes its journal before it answers. A command id is run at most once, whatever is repeated.

Durations travel as remaining milliseconds, so that a wrong wall clock on either side expires nothing.
Times (`at`) are RFC 3339 in UTC and are evidence, never used to decide.
"""

from typing import Annotated, Any, Literal

import msgspec

REGISTER_PATH = "/agent/v1/register"
CHECK_IN_PATH = "/agent/v1/check-in"  # query: app, journal
LINE_PATH = "/agent/v1/line"  # WebSocket; query: app, journal
CLOSE_REFUSED = 4401  # of a WebSocket: the secret opens nothing (any more)
CLOSE_REPLACED = 4409  # of a WebSocket: a newer line of the same app on the same device took its place
MAX_MESSAGE_BYTES = 256 * 1024
MAX_ITEMS = 64  # of each list in one message; the rest follows in the next
MAX_ID_LENGTH = 128  # of what an agent is told: it repeats ids, and an answer must fit into a message

Id = Annotated[str, msgspec.Meta(max_length=MAX_ID_LENGTH)]
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=2**53)]

ReportedRung = Literal["acknowledged", "running", "succeeded", "failed", "deferred"]
PushKind = Literal["wake", "notification", "silent"]


class Wire(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True, rename="camel"):
    """Base of all messages: camelCase on the wire, defaults left out, unknown members ignored."""


class Target(Wire, frozen=True):
    """An address at which a push provider reaches this app, for example a Pushy device token.

    `kind`: which of the provider's kinds of addresses it is; its usual one without it.
    """

    provider: str
    token: str = ""
    kind: str = ""


class Register(Wire, frozen=True):
    """POST /agent/v1/register: what is installed here and how to wake it. Replaces what was registered before."""

    app: str
    agent_version: str
    targets: list[Target] = []


class Registered(Wire, frozen=True):
    """The server's answer to `Register`."""

    device_id: str
    platform: str
    check_in_seconds: float = 300.0


class PushAck(Wire, frozen=True):
    """The agent has this push in its journal (`id` is the push's id); `at` is the device's own time."""

    id: str
    at: str


class ReportError(Wire, frozen=True):
    """Why a command failed: a stable upper-case code and a sentence for people."""

    code: str
    message: str = ""


class Report(Wire, frozen=True):
    """One rung that a claimed command has reached on the device.

    `retry_after_seconds`, with `deferred`: the command is not handed out again before. The server bounds it (1 s to
    6 h); without it the pause grows with each deferral.
    """

    command_id: str
    rung: ReportedRung
    at: str
    error: ReportError | None = None
    detail: dict[str, Any] | None = None
    retry_after_seconds: float | None = None


class CancelAnswer(Wire, frozen=True):
    """`confirmed`: the journal holds the id as cancelled and it will never run. `rejected`: it has begun or is over."""

    command_id: str
    outcome: Literal["confirmed", "rejected"]
    at: str


class CheckIn(Wire, frozen=True):
    """Agent to server. `claim` = how many commands it wants now; `wait_seconds` (HTTP only) = long poll."""

    seq: int = 0
    claim: int = 0
    push_acks: list[PushAck] = []
    reports: list[Report] = []
    cancel_answers: list[CancelAnswer] = []
    wait_seconds: float = 0.0


class PushOffer(Wire, frozen=True):
    """A push for this app. `wake` carries a command id and shows nothing; `silent` shows nothing either."""

    id: Id
    kind: PushKind
    expires_in_ms: Milliseconds
    command_id: str | None = None
    title: str | None = None
    body: str | None = None
    data: dict[str, Any] | None = None


class ClaimedCommand(Wire, frozen=True):
    """A command that this agent may run once, if it begins before `expires_in_ms` have passed."""

    id: Id
    type: str
    expires_in_ms: Milliseconds
    params: dict[str, Any] = {}


class Orders(Wire, frozen=True):
    """Server to agent. `seq` repeats the check-in's; 0 = unasked. `more` = claim again at once.

    `cancels` = ids whose cancel is asked for. `commands` are claimed by the check-in that is answered, or handed out
    again because their acknowledgement never came.
    """

    seq: int = 0
    pushes: list[PushOffer] = []
    commands: list[ClaimedCommand] = []
    cancels: list[Id] = []
    waiting: bool = False  # commands wait to be claimed
    more: bool = False


class Refusal(Wire, frozen=True):
    """Body of a 4xx answer and the reason of a WebSocket close; `code` is stable."""

    code: str
    message: str
