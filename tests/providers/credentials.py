"""Keys, certificates and key files as Apple and Google issue them, and as people get them wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

DEVELOPMENT, PRODUCTION = (x509.ObjectIdentifier(f"1.2.840.113635.100.6.3.{n}") for n in (1, 2))
ENDS = datetime(2040, 5, 6, 7, 8, 9, tzinfo=UTC)
AnyKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@cache
def ec_key(number: int = 0) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem_of(key: AnyKey, password: bytes | None = None) -> str:
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden).decode()


def p8() -> str:
    return pem_of(ec_key())


def certificate(
    uid: str | None,
    *,
    key: AnyKey | None = None,
    ends: datetime = ENDS,
    marks: tuple[x509.ObjectIdentifier, ...] = (),
) -> str:
    """A certificate alone, signed by itself."""
    key = key or ec_key()
    named = [] if uid is None else [x509.NameAttribute(NameOID.USER_ID, uid)]
    name = x509.Name([*named, x509.NameAttribute(NameOID.COMMON_NAME, "Apple Push Services")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(ends, datetime.now(UTC)) - timedelta(days=365))
        .not_valid_after(ends)
    )
    for mark in marks:
        builder = builder.add_extension(x509.UnrecognizedExtension(mark, b"\x05\x00"), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def identity(uid: str | None = "com.example.agent", **options: Any) -> str:
    """A certificate with its key."""
    return certificate(uid, **options) + pem_of(options.get("key") or ec_key())


def service_account(**changes: Any) -> dict[str, Any]:
    return {
        "type": "service_account",
        "project_id": "my-project",
        "private_key_id": "kid1",
        "private_key": pem_of(rsa_key()),
        "client_email": "push@my-project.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    } | changes
