"""The lab's own certificate authority, made at the first start and kept in the state directory."""

import ipaddress
import os
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_LONGEST_NAME = 64  # of a common name (RFC 5280, appendix A); topics of MDM are longer
_LIFE = timedelta(days=820)  # what Apple's clients accept at most is 825


class Authority:
    """Signs the certificates of the lab's TLS servers, and of clients that are to show one.

    `ca_path` is the PEM file that a client must trust. The key lies beside it: trust this authority in tests only.
    """

    def __init__(self, state_dir: Path) -> None:
        self.ca_path = state_dir / "ca.pem"
        key_path = state_dir / "ca.key"
        if not (self.ca_path.exists() and key_path.exists()):
            key, certificate = _new_authority()
            _write(key_path, _private(key))
            _write(self.ca_path, certificate.public_bytes(serialization.Encoding.PEM))
        loaded = serialization.load_pem_private_key(key_path.read_bytes(), None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{key_path} is not the lab's key")
        self._key = loaded
        self._certificate = x509.load_pem_x509_certificate(self.ca_path.read_bytes())
        self._work = state_dir

    def server_context(self, names: Iterable[str] = ()) -> ssl.SSLContext:
        """TLS for a server on loopback (and `names`): ALPN h2; a client's certificate is asked for, not demanded.

        OpenSSL cannot show a certificate without verifying it, so the client's must come from `client_certificate`, or
        from what `trust` was told.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        context.verify_mode = ssl.CERT_OPTIONAL
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(self.ca_path)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Heliograph lab")])
        chain = self._issue(name, ExtendedKeyUsageOID.SERVER_AUTH, [*LOOPBACK, *names])
        path = self._work / f".server.{os.getpid()}.pem"  # ssl reads keys from files only
        try:
            _write(path, chain)
            context.load_cert_chain(path)
        finally:
            path.unlink(missing_ok=True)
        return context

    def client_certificate(self, *, uid: str, common_name: str = "") -> bytes:
        """A key and a certificate for it, PEM, such as Apple issues: the topic is the subject's UID."""
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.USER_ID, uid),
                x509.NameAttribute(NameOID.COMMON_NAME, (common_name or f"Apple Push Services: {uid}")[:_LONGEST_NAME]),
            ]
        )
        return self._issue(name, ExtendedKeyUsageOID.CLIENT_AUTH, [])

    def _issue(self, subject: x509.Name, usage: x509.ObjectIdentifier, names: list[str]) -> bytes:
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self._certificate
        builder = (
            _builder(subject, issuer.subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(_usage(certificates=False), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_name, names))), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return _private(key) + certificate.public_bytes(serialization.Encoding.PEM)


def trust(context: ssl.SSLContext, pem: str) -> None:
    """Accept clients that show this certificate, or one of this authority. ssl.SSLError for what is no PEM."""
    context.load_verify_locations(cadata=pem)


def _new_authority() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Heliograph lab, for tests only")])
    certificate = (
        _builder(name, name, key.public_key(), life=timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return key, certificate


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, life: timedelta = _LIFE
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, and for the owner's eyes only."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    fresh.replace(path)
