"""Keys, certificates and key files as Apple and Google issue them, and as people get them wrong."""

from __future__ import annotations

import base64
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
    host: str | None = None,
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
    if host is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def altered(pem: str, old: bytes, new: bytes) -> str:
    """A PEM block with other bytes: of a certificate, nobody looks at the signature."""
    first, *lines, last = pem.splitlines()
    der = base64.b64decode("".join(lines))
    assert old in der
    return "\n".join((first, base64.encodebytes(der.replace(old, new)).decode().strip(), last, ""))


def on_an_odd_curve() -> str:
    """A key that names a curve which cryptography does not know: X9.62's prime239v3."""
    curve = bytes.fromhex("2a8648ce3d0301")  # without its last number
    return altered(p8(), curve + b"\x07", curve + b"\x06")


def of_unknown_version() -> str:
    """A certificate of X.509 version 8, of which there are three."""
    return altered(certificate("com.example.agent"), b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07")


def with_a_mark_twice() -> str:
    """A certificate that says twice that it is for development."""
    mark = bytes.fromhex("2a864886f763640603")  # Apple's, without its last number
    return altered(certificate("com.example.agent", marks=(DEVELOPMENT, PRODUCTION)), mark + b"\x02", mark + b"\x01")


def with_an_x400_address() -> str:
    """A certificate with a name of a kind that nobody uses."""
    return altered(certificate("com.example.agent", host="abcdef"), b"\x82\x06abcdef", b"\xa3\x06abcdef")


def named(kind: bytes) -> str:
    """A certificate whose subject's UID is of another kind, 17 bytes with its length."""
    return altered(certificate("com.example.agent"), b"\x0c\x11com.example.agent", kind)


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
