"""What WNS demands of the headers and the body of a notification."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from heliograph_lab.wns.model import MOST_BYTES, Kind, WnsError

_CONTENT = {"toast": "text/xml", "raw": "application/octet-stream"}
_NOT_MODELLED = ("tile", "badge")


class Wanted(NamedTuple):
    """A request, read. `ttl` in seconds."""

    kind: Kind
    body: str
    ttl: int | None
    cached: bool
    wants_status: bool


def read(headers: Mapping[str, str], body: bytes) -> Wanted:
    """The notification in a request; header names in lower case. WnsError when it is wrong."""
    if "transfer-encoding" in headers or "content-length" not in headers:
        raise WnsError(400, "Content-Length is required, and chunks are not taken")
    kind = headers.get("x-wns-type", "").removeprefix("wns/")
    if kind in _NOT_MODELLED:
        raise WnsError(501, f"The lab does not model wns/{kind}")
    if kind not in _CONTENT or not headers.get("x-wns-type", "").startswith("wns/"):
        raise WnsError(400, "X-WNS-Type must be wns/toast, wns/badge, wns/tile or wns/raw")
    if headers.get("content-type", "").partition(";")[0].strip().lower() != _CONTENT[kind]:
        raise WnsError(400, f"Content-Type must be {_CONTENT[kind]}")
    if "x-wns-suppresspopup" in headers:
        raise WnsError(400, "X-WNS-SuppressPopup is for Windows Phone")
    ttl = headers.get("x-wns-ttl")
    if ttl is not None and not re.fullmatch(r"[0-9]{1,10}", ttl):
        raise WnsError(400, "X-WNS-TTL must be a number of seconds")
    cache = _one_of(headers, "x-wns-cache-policy", ("cache", "no-cache"))
    if cache == "cache" and ttl is not None and int(ttl) == 0:  # pywebpush#162
        raise WnsError(400, "Ttl value conflicts with X-WNS-Cache-Policy.")
    wants_status = _one_of(headers, "x-wns-requestforstatus", ("true", "false")) == "true"
    if len(body) > MOST_BYTES:
        raise WnsError(413, f"The payload exceeds {MOST_BYTES} bytes")
    if not body:
        raise WnsError(400, "The payload is empty")
    # A toast's XML is looked at by the device, not here.
    text = body.decode("utf-8", "replace")
    seconds = None if ttl is None else int(ttl)
    return Wanted("toast" if kind == "toast" else "raw", text, seconds, cache == "cache", wants_status)


def _one_of(headers: Mapping[str, str], name: str, words: tuple[str, ...]) -> str | None:
    value = headers.get(name)
    if value is not None and value.lower() not in words:
        raise WnsError(400, f"{name} must be {' or '.join(words)}")
    return None if value is None else value.lower()
