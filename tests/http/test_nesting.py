"""How deep a body is nested is found before it is decoded, by a count that must agree with the plain one."""

from __future__ import annotations

import re

from hypothesis import assume, example, given
from hypothesis import strategies as st

from heliograph.http.operations import MAX_DEPTH, _too_deep

_TEXTS = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
PIECES = (
    b"[",
    b"{",
    b"]",
    b"}",
    b"[" * 40,
    b"{" * 33,
    b"]" * 30,
    b'"x["',
    b'"\\""',
    b'"\\\\"',
    b'""',
    b",",
    b"1",
    b'"',
)


def deepest(raw: bytes) -> int:
    """Byte by byte."""
    depth = most = 0
    for byte in _TEXTS.sub(b"", raw):
        depth += (byte in b"[{") - (byte in b"]}")
        most = max(most, depth)
    return most


@given(st.lists(st.sampled_from(PIECES), max_size=60).map(b"".join))
@example(b"[" * MAX_DEPTH)
@example(b"[" * (MAX_DEPTH + 1))
@example(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
@example(b"[]" * 200 + b"[" * MAX_DEPTH + b"{}" + b"]" * MAX_DEPTH)
@example(b'"' + b"[" * 200 + b'"' + b"{" * (MAX_DEPTH + 1))
def test_it_agrees_with_the_plain_count(raw: bytes) -> None:
    # Outside a string a backslash is no JSON, and decoding ends there whatever comes behind.
    assume(b"\\" not in _TEXTS.sub(b"", raw))
    assert _too_deep(raw) == (deepest(raw) > MAX_DEPTH)
