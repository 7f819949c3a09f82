"""The filters of the contract's lists of devices. Devices here have no policies, tags and segments: none fits those."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heliograph.domain.errors import FieldError
from heliograph.domain.ids import is_id
from heliograph.ports.pages import DeviceFilter

_ID: dict[str, Any] = {"type": "string", "pattern": "^[a-fA-F0-9]{24}$"}
_NONE_HAS = "None has one here, so none fits."


@dataclass(frozen=True, slots=True)
class Filter:
    """A query parameter: how it is documented, whether it may hold several values, what is wrong with one, and which
    devices it leaves.
    """

    meaning: str
    schema: Mapping[str, Any]
    fault: Callable[[str], str | None]
    narrow: Callable[[Sequence[str]], dict[str, Any]]
    several: bool = False


def _fault_of(fits: Callable[[str], object], reason: str) -> Callable[[str], str | None]:
    return lambda text: None if fits(text) else reason


def _none(_: Sequence[str]) -> dict[str, Any]:
    return {"nothing": True}


_id_fault = _fault_of(is_id, "must be 24 hex digits")
_text_fault = _fault_of(lambda text: text.isprintable() and len(text) <= 256, "must be text of at most 256 characters")
_WORDS = {"type": "array", "items": {"type": "string", "maxLength": 256}}

FILTERS = {
    "mdm-user": Filter("Of this user.", _ID, _id_fault, lambda given: {"mdm_user_id": given[0].lower()}),
    "emm-policy": Filter(f"With this policy. {_NONE_HAS}", _ID, _id_fault, _none),
    "aos-policy": Filter(f"With this policy. {_NONE_HAS}", _ID, _id_fault, _none),
    "show-deleted": Filter(
        "false = without those that are deleted.",
        {"type": "boolean", "default": True},
        _fault_of({"true", "false"}.__contains__, "must be true or false"),
        lambda given: {"with_deleted": given[0] == "true"},
    ),
    "state": Filter(
        "In one of these states; several with commas between, or given several times.",
        _WORDS,
        _text_fault,
        lambda given: {"states": tuple(dict.fromkeys(given))},
        several=True,
    ),
    "tags": Filter(f"With one of these tags. {_NONE_HAS}", _WORDS, _text_fault, _none, several=True),
    "segmentId": Filter(
        f"In this segment. {_NONE_HAS}",
        {"type": "integer", "minimum": 0, "maximum": 2**53 - 1},
        _fault_of(
            lambda text: re.fullmatch("[0-9]{1,16}", text) and int(text) < 2**53, "must be a whole number from 0"
        ),
        _none,
    ),
    "expandTo": Filter(
        "Also of the segments below or above.",
        {"type": "string", "enum": ["ancestors", "children"]},
        _fault_of({"ancestors", "children"}.__contains__, "must be one of ancestors, children"),
        lambda _: {},
    ),
}
ANDROID_FILTERS = ("mdm-user", "emm-policy", "show-deleted", "tags", "segmentId", "expandTo")
AOSP_FILTERS = ("mdm-user", "aos-policy", "show-deleted", "segmentId", "expandTo", "state", "tags")


def read_filters(
    names: Sequence[str], raw: Mapping[str, Sequence[str]], errors: list[FieldError]
) -> DeviceFilter | None:
    """What is asked for; None where nothing is. An empty value asks for nothing."""
    told: dict[str, Any] = {}
    for name in names:
        entry = FILTERS[name]
        given = [*raw.get(name, ()), *(raw.get(f"{name}[]", ()) if entry.several else ())]
        if entry.several:
            given = [part for text in given for part in text.split(",")]
        given = [text for text in given if text]
        reason = next((found for text in given if (found := entry.fault(text))), None)
        if len(given) > 1 and not entry.several:
            reason = "is given more than once"
        if reason is not None:
            errors.append(FieldError(name, reason))
        elif given:
            told |= entry.narrow(given)
    return DeviceFilter(**told) if told else None
