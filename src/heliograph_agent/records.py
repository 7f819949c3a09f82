"""What the journal remembers of each command and each push: the whole state in one record, the last one counts."""

from typing import Any, Literal

import msgspec

from heliograph_protocol.messages import Report

Stage = Literal["received", "started", "finished", "deferred", "cancelled"]
Owed = Literal["acknowledged", "result", "cancel"]

LIVE: frozenset[Stage] = frozenset({"received", "started"})
MAX_DEPTH = 100  # levels of what is kept or told: what can be read within Python's bounds must be written within them


class CommandRecord(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="of", tag="command"):
    """A command id and how far it came here. Times are seconds since the epoch by the device's own clock.

    `params` are kept while the command is live and are gone afterwards; `names` is how many there were.
    `owed` is what the server has not confirmed yet: the acknowledgement, the result, the answer to a cancel order.
    `doubtful`: a later line of this command may have been lost, so what the stage says may be too little.
    """

    id: str
    stage: Stage
    at: float
    type: str = ""
    received: float = 0.0
    deadline: float = 0.0
    params: dict[str, Any] = {}
    names: int = 0
    doubtful: bool = False
    report: Report | None = None
    owed: list[Owed] = []


class PushRecord(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="of", tag="push"):
    """A push id. `seen`: known, but a notification was perhaps not shown yet. `done`: nothing is left but to say so."""

    id: str
    stage: Literal["seen", "done"]
    at: float
    owed: bool = False


class Header(msgspec.Struct, kw_only=True, tag_field="of", tag="journal"):
    """First line of a journal: which format the rest has, and the journal's name, which no other one has.

    Journals of earlier versions of the agent have no name until they are rewritten.
    """

    version: int
    name: str = ""


Record = CommandRecord | PushRecord

_decoder: msgspec.json.Decoder[CommandRecord | PushRecord | Header] = msgspec.json.Decoder(
    CommandRecord | PushRecord | Header
)
_encoder = msgspec.json.Encoder()


def is_deeper(value: Any, levels: int = MAX_DEPTH) -> bool:
    """Whether a value is nested deeper than so many levels."""
    if not isinstance(value, dict | list):
        return False
    members = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(is_deeper(member, levels - 1) for member in members)


def decode_line(line: bytes) -> CommandRecord | PushRecord | Header:
    """Read one line; raises msgspec.MsgspecError or UnicodeDecodeError when it is damaged."""
    return _decoder.decode(line)


def encode_line(record: Record | Header, *, with_params: bool) -> bytes:
    """Write one line, with its line break."""
    if not with_params and isinstance(record, CommandRecord) and record.params:
        record = msgspec.structs.replace(record, params={})
    return _encoder.encode(record) + b"\n"
