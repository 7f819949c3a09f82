"""The real clock and the real encryption."""

import base64
import os
import secrets
import time
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
KEY_FILE = "secret.key"
_NONCE_BYTES = 12
_FINGERPRINT_BYTES = 4


class SystemClock:
    """Wall-clock time that never goes back.

    It follows the wall clock forward and, when that jumps back, goes on from where it was by the monotonic clock, so
    leases, back-offs and expiries keep their length. `not_before` (microseconds) carries that over restarts.
    """

    def __init__(self, not_before: int = 0) -> None:
        self._offset_ns = max(time.time_ns(), not_before * 1000) - time.monotonic_ns()

    def now(self) -> int:
        """Microseconds since the epoch (UTC)."""
        monotonic = time.monotonic_ns()
        offset_ns = time.time_ns() - monotonic
        if offset_ns > self._offset_ns:  # noqa: PLR1730 - some twenty times a push, and `max` is a third of the time
            self._offset_ns = offset_ns
        return (monotonic + self._offset_ns) // 1000

    def elapsed(self) -> int:
        """Microseconds of the monotonic clock, which no step of the wall clock moves."""
        return time.monotonic_ns() // 1000


class AesGcmBox:
    """AES-256-GCM. A sealed text begins with a fingerprint of its key, so a wrong key is told from a damaged text."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"the secret key must have {KEY_BYTES} bytes")
        self._cipher = AESGCM(key)
        self._fingerprint = fingerprint_of(key)

    def seal(self, plain: bytes) -> bytes:
        """The sealed form of `plain`."""
        nonce = os.urandom(_NONCE_BYTES)
        return self._fingerprint + nonce + self._cipher.encrypt(nonce, plain, self._fingerprint)

    def open(self, sealed: bytes) -> bytes:
        """The plain bytes again; raises ValueError."""
        fingerprint, rest = sealed[:_FINGERPRINT_BYTES], sealed[_FINGERPRINT_BYTES:]
        if fingerprint != self._fingerprint:
            raise ValueError("sealed with another secret key")
        try:
            return self._cipher.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], fingerprint)
        except InvalidTag:
            raise ValueError("damaged, or sealed with another secret key") from None


def fingerprint_of(key: bytes) -> bytes:
    """A few bytes by which a key is recognised without giving anything away."""
    return AESGCM(key).encrypt(bytes(_NONCE_BYTES), b"", b"heliograph key fingerprint")[:_FINGERPRINT_BYTES]


def load_secret_key(text: str | None, path: Path) -> bytes | None:
    """The key for secrets at rest: from the environment (`text`, base64 or hex), else from the file; None without both.

    Raises ValueError with what to do when either is unusable, OSError when the file cannot be read.
    """
    if text:
        return decode_key(text, "HELIOGRAPH_SECRET_KEY")
    try:
        return decode_key(path.read_text(encoding="ascii", errors="replace"), str(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def make_secret_key(path: Path) -> bytes:
    """A new key in a file of mode 0600; the key of another process if that was faster."""
    _write_key(path, base64.b64encode(secrets.token_bytes(KEY_BYTES)))
    return decode_key(path.read_text(encoding="ascii", errors="replace"), str(path))


def next_key_file(path: Path) -> Path:
    """Where the next key lies while the key in `path` is being replaced."""
    return path.with_suffix(".key.next")


def adopt_next_key(path: Path, fingerprint: str | None) -> None:
    """Finish a replacement of the key that was interrupted after the database had the new one (its `fingerprint`)."""
    following = next_key_file(path)
    try:
        key = decode_key(following.read_text(encoding="ascii", errors="replace"), str(following))
    except (OSError, ValueError):
        return
    if fingerprint_of(key).hex() == fingerprint:
        following.replace(path)


def decode_key(text: str, where: str) -> bytes:
    """A key from base64 or hex; raises ValueError that says `where` it came from."""
    text = text.strip()
    for decode in (bytes.fromhex, lambda t: base64.b64decode(t, validate=True)):
        try:
            key = decode(text)
        except ValueError:
            continue
        if len(key) == KEY_BYTES:
            return key
    raise ValueError(f"{where} must hold {KEY_BYTES} bytes in base64 or hex (openssl rand -base64 {KEY_BYTES})")


def _write_key(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, content + b"\n")
        os.fsync(handle)
    finally:
        os.close(handle)
    # A link fails where another process was faster; its key then counts.
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
