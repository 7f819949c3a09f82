"""Addresses of services, as people name them."""

from urllib.parse import urlsplit


def is_address(text: str) -> bool:
    """Whether this is an absolute http or https address that paths can be added to, without a user name in it."""
    try:
        parts = urlsplit(text)
        whole = parts.port != 0 and text.isascii() and text.isprintable() and " " not in text
    except ValueError:
        return False
    extra = parts.query or parts.fragment or "@" in parts.netloc
    return whole and parts.scheme in ("http", "https") and bool(parts.hostname) and not extra
