"""Private keys that tenants name: none of them may keep the server from everybody else while it is read."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from heliograph.domain.errors import InvalidInput
from heliograph.outbound import keys
from heliograph.outbound.google import read_service_account
from heliograph.providers.transport.certificates import read_certificate
from heliograph.providers.transport.tokens import read_key
from heliograph.providers.webpush.vapid import private_key_of
from tests.channels.google import account_file

# Of 8,676 bits, whose factors are the primes 2**4253 - 1 and 2**4423 - 1, such a key takes 13 s, and has 6,745.
LARGE = "-----BEGIN RSA PRIVATE KEY-----\n" + "A" * 6_700 + "\n-----END RSA PRIVATE KEY-----\n"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\n"


@pytest.mark.parametrize(
    "read",
    [
        lambda: read_service_account(account_file("https://a.example/token", private_key=LARGE)),
        lambda: read_key("TEAM123456", "ABC123DEFG", LARGE.encode()),
        lambda: private_key_of(LARGE),
    ],
)
def test_a_key_of_more_than_4096_bits_is_not_even_read(
    read: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(keys, "load_pem_private_key")
    with pytest.raises((ValueError, InvalidInput)):
        read()


def test_nor_is_that_of_a_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(keys, "load_pem_private_key")
    monkeypatch.setattr("cryptography.x509.load_pem_x509_certificates", lambda _: [])
    with pytest.raises(ValueError, match="4096 bits"):
        read_certificate((CERTIFICATE + LARGE).encode())


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_one_of_4096_bits_is(form: PrivateFormat, four_thousand: rsa.RSAPrivateKey) -> None:
    pem = four_thousand.private_bytes(Encoding.PEM, form, NoEncryption())
    for text in (pem, pem.replace(b"\n", b"\r\n")):
        assert isinstance(keys.load_key(text), rsa.RSAPrivateKey)
    read_service_account(account_file("https://a.example/token", private_key=pem.decode()))


@pytest.fixture(scope="module")
def four_thousand() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=4096)
