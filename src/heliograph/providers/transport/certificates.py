"""Client certificates as Apple issues them for pushes, and what can be told of one before it is used."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from heliograph.outbound.keys import load_key

_KEY = re.compile(rb"-----BEGIN ([A-Z ]*)PRIVATE KEY-----.*?-----END \1PRIVATE KEY-----", re.DOTALL)
_EXPORT = "export certificate and key together, and turn the .p12 into PEM: openssl pkcs12 -in FILE.p12 -nodes"
# Apple's extensions say in which environment a certificate is taken; one may be for both, or say nothing.
_ENVIRONMENTS = {"1.2.840.113635.100.6.3.1": "sandbox", "1.2.840.113635.100.6.3.2": "production"}
# What cryptography raises of a certificate that it cannot make sense of, as a whole or in parts.
_UNREADABLE = (
    *(ValueError, TypeError, UnsupportedAlgorithm),
    *(x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
)


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """`topic`: the subject's UID. `expires_at` in microseconds. `environments`: empty where it does not say.

    `pem`: the key, the certificate and the rest of its chain, in this order and without anything else.
    """

    topic: str | None
    expires_at: int
    environments: frozenset[str]
    pem: bytes = field(repr=False)

    def has_expired(self) -> bool:
        """Whether its time is over, by the machine's clock."""
        return self.expires_at <= datetime.now(UTC).timestamp() * 1_000_000


def read_certificate(pem: bytes) -> ClientCertificate:
    """A certificate with its key. Raises ValueError that says what is wrong, and repeats nothing."""
    if b"-----BEGIN CERTIFICATE-----" not in pem:
        raise ValueError(f"holds no certificate in PEM form; {_EXPORT}")
    try:
        chain = x509.load_pem_x509_certificates(pem)
    except _UNREADABLE as error:
        raise ValueError("holds a certificate that cannot be read: is it cut off?") from error
    key = _key(pem)
    own = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    leaf = next((c for c in chain if _public(c) == own), None)
    if leaf is None:
        raise ValueError("holds a private key that belongs to another certificate")
    ordered = [leaf, *(c for c in chain if c is not leaf)]
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        uid = next(iter(leaf.subject.get_attributes_for_oid(NameOID.USER_ID)), None)
        marks = {extension.oid.dotted_string for extension in leaf.extensions}
    except _UNREADABLE as error:
        raise ValueError("holds a certificate that cannot be read: its parts are not what they should be") from error
    return ClientCertificate(
        None if uid is None else str(uid.value),
        int(leaf.not_valid_after_utc.timestamp()) * 1_000_000,
        frozenset(environment for oid, environment in _ENVIRONMENTS.items() if oid in marks),
        b"".join([private, *(c.public_bytes(Encoding.PEM) for c in ordered)]),
    )


def _key(pem: bytes) -> RSAPrivateKey | EllipticCurvePrivateKey:
    if b"PRIVATE KEY-----" not in pem:
        raise ValueError(f"holds no private key; {_EXPORT}")
    block = _KEY.search(pem)
    if block is None:
        raise ValueError("holds a private key that is cut off")
    if b"ENCRYPTED" in block[0]:
        raise ValueError("holds a private key that is protected by a password; take that off (openssl pkcs12 … -nodes)")
    try:
        key = load_key(block[0])
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("holds a private key that cannot be read, or has more than 4096 bits") from error
    if not isinstance(key, RSAPrivateKey | EllipticCurvePrivateKey):
        raise ValueError("holds a private key that is neither RSA nor EC")  # noqa: TRY004 - of a file, not an argument
    return key


def _public(certificate: x509.Certificate) -> bytes | None:
    try:
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return None


def is_authority(pem: str) -> bool:
    """Whether this is PEM of one or more certificates."""
    try:
        return bool(x509.load_pem_x509_certificates(pem.encode()))
    except _UNREADABLE:
        return False
