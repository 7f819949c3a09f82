"""Page sizes and opaque page tokens."""

import base64
import binascii
import hashlib
from typing import Any

from heliograph_lab.amapi.errors import ApiError


def page_size(asked: Any, default: int, most: int) -> int:
    """Documented: 0 or absent means the default, and what is too large is coerced to the maximum."""
    size = int(asked or 0)
    if size < 0:
        raise ApiError(400, "Page size must not be negative.")
    return min(size, most) if size else default


def make_token(cursor: str, *parameters: str) -> str:
    """A token that goes on behind `cursor`, good only for the same parameters."""
    return base64.urlsafe_b64encode(_seal(cursor, parameters) + cursor.encode()).decode().rstrip("=")


def read_token(token: str, *parameters: str) -> str:
    """The cursor; 400 for a token that is made up or belongs to another request."""
    try:
        raw = base64.urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
        cursor = raw[8:].decode()
    except (binascii.Error, UnicodeError):
        raise ApiError(400, "Invalid page token.") from None
    if raw[:8] != _seal(cursor, parameters):
        raise ApiError(400, "Invalid page token.")
    return cursor


def _seal(cursor: str, parameters: tuple[str, ...]) -> bytes:
    # No secret: a client that forges these deceives nobody but itself.
    return hashlib.sha256("\0".join((cursor, *parameters)).encode()).digest()[:8]
