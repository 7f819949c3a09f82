"""How a push is encrypted for its app alone (RFC 8291)."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.utils import base64url_decode, base64url_encode

from heliograph.providers.webpush import MAX_TEXT_BYTES
from heliograph.providers.webpush.subscription import Subscription, encrypt, read_subscription
from tests.providers.test_webpush import subscription
from tests.providers.webpush.rig import decrypted


def test_the_example_of_rfc_8291(monkeypatch: pytest.MonkeyPatch) -> None:
    # https://www.rfc-editor.org/rfc/rfc8291#section-5 and appendix A
    sender = ec.derive_private_key(
        int.from_bytes(base64url_decode("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw")), ec.SECP256R1()
    )
    monkeypatch.setattr("heliograph.providers.webpush.subscription.ec.generate_private_key", lambda curve: sender)
    monkeypatch.setattr("http_ece.os.urandom", lambda count: base64url_decode("DGv6ra1nlYgDCS1FRnbzlw"))
    read = read_subscription(subscription("https://push.example.net/push/JzLQ3raZJfFBR0aqvOMsLrt54w4rJUsV"))
    assert isinstance(read, Subscription)
    body = encrypt(b"When I grow up, I want to be a watermelon", read)
    assert base64url_encode(body).decode() == (
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_"
        "yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
    )


def test_a_key_and_a_salt_are_used_once() -> None:
    read = read_subscription(subscription("https://push.example/x"))
    assert isinstance(read, Subscription)
    one, other = encrypt(b"x", read), encrypt(b"x", read)
    assert one[:16] != other[:16]
    assert one[21:86] != other[21:86]
    assert decrypted(one) == decrypted(other) == b"x"


def test_the_largest_text_fills_one_record() -> None:
    read = read_subscription(subscription("https://push.example/x"))
    assert isinstance(read, Subscription)
    assert len(encrypt(b"x" * MAX_TEXT_BYTES, read)) == 4096
    assert decrypted(encrypt(b"x" * MAX_TEXT_BYTES, read)) == b"x" * MAX_TEXT_BYTES
