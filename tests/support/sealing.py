"""A stand-in for the encryption of what lies in the database: reversible, and it notices a changed key."""

from __future__ import annotations


class TestBox:
    """Implements `ports.clock.SecretBox`."""

    __test__ = False

    def __init__(self, key: bytes = b"k") -> None:
        self._key = key

    def seal(self, plain: bytes) -> bytes:
        return self._key + b":" + plain[::-1]

    def open(self, sealed: bytes) -> bytes:
        key, _, reversed_plain = sealed.partition(b":")
        if key != self._key:
            raise ValueError("sealed with another key")
        return reversed_plain[::-1]
