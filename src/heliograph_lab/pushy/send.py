"""The body of POST /push, checked."""

from typing import Any

import msgspec

from heliograph_lab.pushy import model
from heliograph_lab.pushy.model import PushyError

_TOPICS = "/topics/"


class SendRequest(msgspec.Struct, kw_only=True):
    """A push that is in order; recipients are still to be looked up."""

    tokens: list[str]
    topics: list[str]
    data: dict[str, Any]
    time_to_live: int
    schedule: int | None
    collapse_key: str | None


def read_send(body: dict[str, Any], now: int) -> SendRequest:
    """Check every documented member; the ones for iOS are taken as they are."""
    tokens, topics = _recipients(body)
    collapse_key = body.get("collapse_key")
    if collapse_key is not None and (
        not isinstance(collapse_key, str) or len(collapse_key) > model.LONGEST_COLLAPSE_KEY
    ):
        raise _invalid("collapse_key must be a string of at most 32 characters.")
    schedule = _integer(body, "schedule", None, now + 1, now + model.LONGEST_LIFE)
    life = _integer(body, "time_to_live", model.DEFAULT_LIFE, 1, model.LONGEST_LIFE)
    return SendRequest(
        tokens=tokens,
        topics=topics,
        data=_data(body),
        time_to_live=life or model.DEFAULT_LIFE,
        schedule=schedule,
        collapse_key=collapse_key,
    )


def _invalid(message: str) -> PushyError:
    return PushyError(400, "INVALID_PARAM", message)


def _data(body: dict[str, Any]) -> dict[str, Any]:
    data = body.get("data")
    if not isinstance(data, dict):
        raise _invalid("Please provide data: the payload, an object.")
    if len(msgspec.json.encode(data)) > model.MOST_DATA_BYTES:
        raise PushyError(400, "PAYLOAD_LIMIT_EXCEEDED", "The payload data exceeds 4 kB.")
    return data


def _recipients(body: dict[str, Any]) -> tuple[list[str], list[str]]:
    # Early clients write `token`, `tokens` or `registration_ids`; the documented name is `to`.
    to = next((body[name] for name in ("to", "token", "tokens", "registration_ids") if body.get(name)), None)
    every = [to] if isinstance(to, str) else to
    if not isinstance(every, list) or not every or not all(isinstance(one, str) and one for one in every):
        raise _invalid("Please provide the recipients in `to`: a token, a topic, or a list of either.")
    topics = [one.removeprefix(_TOPICS) for one in every if one.startswith(_TOPICS)]
    tokens = [one for one in dict.fromkeys(every) if not one.startswith(_TOPICS)]
    if len(tokens) > model.MOST_TOKENS or len(topics) > model.MOST_TOPICS:
        raise _invalid(f"At most {model.MOST_TOKENS} tokens and {model.MOST_TOPICS} topics per request.")
    return tokens, topics


def _integer(body: dict[str, Any], name: str, default: int | None, least: int, most: int) -> int | None:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _invalid(f"{name} must be an integer from {least} to {most}.")
    return value
