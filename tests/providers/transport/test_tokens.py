"""One provider token per key: renewed at 40 minutes, and by force not within 20."""

from __future__ import annotations

from dataclasses import replace

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from heliograph.providers.transport import ProviderTokens, SigningKey, read_key
from tests.providers.transport.clock import StandingClock

MINUTE = 60


def pem(private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return read_key("TEAM123456", "KEY1234567", pem(ec.generate_private_key(ec.SECP256R1())))


def test_a_token_says_what_apple_asks_for(key: SigningKey) -> None:
    clock = StandingClock()
    token = ProviderTokens(clock).token(key)
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "kid": "KEY1234567", "typ": "JWT"}
    claims = jwt.decode(token, key.private.public_key(), ["ES256"], options={"verify_iat": False})
    assert claims == {"iss": "TEAM123456", "iat": clock.time // 1_000_000}


def test_all_who_ask_share_one_token_for_40_minutes(key: SigningKey) -> None:
    clock = StandingClock()
    tokens = ProviderTokens(clock)
    first = tokens.token(key)
    clock.advance(40 * MINUTE - 1)
    assert {tokens.token(key) for _ in range(10)} == {first}
    clock.advance(1)
    second = tokens.token(key)
    assert second != first
    assert {tokens.token(key) for _ in range(10)} == {second}


def test_keys_have_tokens_of_their_own(key: SigningKey) -> None:
    tokens = ProviderTokens(StandingClock())
    other = read_key("TEAM123456", "KEY7654321", pem(ec.generate_private_key(ec.SECP256R1())))
    assert tokens.token(key) != tokens.token(other)


def test_another_key_under_the_same_id_is_another_key(key: SigningKey) -> None:
    tokens = ProviderTokens(StandingClock())
    tokens.token(key)
    replaced = read_key(key.team_id, key.key_id, pem(ec.generate_private_key(ec.SECP256R1())))
    jwt.decode(tokens.token(replaced), replaced.private.public_key(), ["ES256"], options={"verify_iat": False})


def test_an_expired_token_is_renewed_once_and_not_within_20_minutes(key: SigningKey) -> None:
    clock = StandingClock()
    tokens = ProviderTokens(clock)
    first = tokens.token(key)
    clock.advance(20 * MINUTE - 1)
    assert not tokens.expired(key, first)
    assert tokens.token(key) == first
    clock.advance(1)
    assert tokens.expired(key, first)
    second = tokens.token(key)
    assert second != first
    # Those who were refused with the old one find that there is a new one, and make no third.
    assert tokens.expired(key, first)
    assert tokens.token(key) == second
    assert not tokens.expired(key, second)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"nonsense",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        pem(rsa.generate_private_key(65537, 2048)),
        pem(ec.generate_private_key(ec.SECP384R1())),
        ec.generate_private_key(ec.SECP256R1())
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    ],
)
def test_anything_but_a_p256_key_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"is not a (P-256 key|private key in PEM form)"):
        read_key("TEAM123456", "KEY1234567", text)


def test_a_key_shows_no_secret(key: SigningKey) -> None:
    assert "private" not in repr(key)


def test_keys_that_come_and_go_fill_no_memory(key: SigningKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heliograph.providers.transport.tokens.MOST_KEYS", 3)
    clock = StandingClock()
    tokens = ProviderTokens(clock)
    kept = tokens.token(key)
    for number in range(5):
        tokens.token(replace(key, key_id=f"KEY{number}"))
        clock.advance(1)
        assert tokens.token(key) == kept  # it is used, so it stays
    assert len(tokens) == 3
