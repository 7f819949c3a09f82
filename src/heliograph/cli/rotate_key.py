"""`heliograph db rotate-key`: seal everything with a new secret key."""

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliograph.cli.exits import ExitCode, Failure
from heliograph.system import (
    KEY_FILE,
    AesGcmBox,
    adopt_next_key,
    decode_key,
    fingerprint_of,
    load_secret_key,
    make_secret_key,
    next_key_file,
)

if TYPE_CHECKING:
    from heliograph.settings import Settings
    from heliograph.store import AnyStore

NEW_KEY = "HELIOGRAPH_NEW_SECRET_KEY"


async def rotate(settings: "Settings", store: "AnyStore") -> dict[str, Any]:
    """Replace the key. Can be repeated: what was interrupted is found half done, and finished."""
    path = settings.data_dir / KEY_FILE
    if settings.secret_key is None:
        adopt_next_key(path, await store.known_fingerprint())
    old = _present(settings, path)
    if await store.known_fingerprint() != fingerprint_of(old).hex():
        raise Failure(ExitCode.REFUSED, "the secret key is not the one that belongs to this database")
    new = _next(settings, path)
    present, following = AesGcmBox(old), AesGcmBox(new)
    lost = 0

    def again(sealed: bytes) -> bytes | None:
        nonlocal lost
        try:
            return following.seal(present.open(sealed))
        except ValueError:
            lost += 1
            return None

    sealed = await store.reseal(again, fingerprint_of(new).hex())
    if settings.secret_key is None:
        adopt_next_key(path, fingerprint_of(new).hex())
    return {"sealedAgain": sealed, "unreadable": lost, "keyFile": None if settings.secret_key else str(path)}


def _present(settings: "Settings", path: Path) -> bytes:
    text = settings.secret_key.get_secret_value() if settings.secret_key else None
    try:
        key = load_secret_key(text, path)
    except (ValueError, OSError) as error:
        raise Failure(ExitCode.USAGE, str(error)) from None
    if key is None:
        raise Failure(ExitCode.REFUSED, f"there is no secret key in {path.parent}: nothing was sealed with one yet")
    return key


def _next(settings: "Settings", path: Path) -> bytes:
    """The new key: given by whoever keeps the present one in the environment, else made beside the present file."""
    given = os.environ.get(NEW_KEY)
    if settings.secret_key is not None and given is None:
        raise Failure(
            ExitCode.USAGE,
            f"the key is kept in HELIOGRAPH_SECRET_KEY: give the new one in {NEW_KEY} (openssl rand -base64 32), and "
            "start the server with it afterwards",
        )
    if given is None:
        return make_secret_key(next_key_file(path))  # that of an earlier try, where there is one
    try:
        key = decode_key(given, NEW_KEY)
    except ValueError as error:
        raise Failure(ExitCode.USAGE, str(error)) from None
    if settings.secret_key is None:
        with suppress(FileNotFoundError):
            next_key_file(path).unlink()
        handle = os.open(next_key_file(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(given.strip() + "\n")
            file.flush()
            os.fsync(file.fileno())
    return key
