"""A service account's key file for the lab: as Google gives them out, but for where tokens are asked for."""

import json
import os
import re
import secrets
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from heliograph.cli.exits import ExitCode, Failure, usage
from heliograph.cli.output import remark_waiting
from heliograph.cli.starting import LONGEST_S

T = TypeVar("T")

_PROJECT = r"[a-z][a-z0-9-]{4,28}[a-z0-9]"
_KEY_BITS = 2048
SIGN_S = 10.0  # until a lab that was started a moment ago shows the first sign of life
_LOOK_AGAIN_S = 0.1


class NotUp(Failure):
    """There is no lab, or there is none yet."""


def write_key_file(path: Path, project: str, amapi_url: str) -> None:
    """Write a new key file with mode 0600; one of this lab and project that is there stays. Raises Failure."""
    if re.fullmatch(_PROJECT, project) is None:
        raise usage("--project: 6 to 30 lower-case letters, digits and hyphens, such as lab-project")
    if _is_such_a_key(path, project, amapi_url):
        return
    number = "".join(secrets.choice("0123456789") for _ in range(21))
    members = {
        "type": "service_account",
        "project_id": project,
        "private_key_id": secrets.token_hex(20),
        "private_key": _new_key(),
        "client_email": f"heliograph@{project}.iam.gserviceaccount.com",
        "client_id": number,
        "token_uri": _token_uri(amapi_url),
    }
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        what = f"is there already, and is no key of project {project} in this lab"
        raise usage(f"{path} {what}: choose another name, or remove it if it is not needed") from None
    except OSError as error:
        raise usage(f"{path} cannot be written: {error.strerror}") from None
    with os.fdopen(handle, "w") as file:
        file.write(json.dumps(members, indent=2) + "\n")


def _token_uri(amapi_url: str) -> str:
    return f"{amapi_url}/token"


def _is_such_a_key(path: Path, project: str, amapi_url: str) -> bool:
    try:
        members = json.loads(path.read_bytes())
        return (members["project_id"], members["token_uri"]) == (project, _token_uri(amapi_url))
    except (OSError, ValueError, LookupError, TypeError):
        return False


def google_settings(amapi_url: str, pubsub_url: str) -> dict[str, str]:
    """The settings of a server whose Google is a lab, by their names."""
    return {"amapi_url": amapi_url, "pubsub_url": pubsub_url, "google_certs_url": f"{pubsub_url}/certs"}


def exports(addresses: dict[str, str]) -> str:
    """The commands that lead a server to the lab."""
    settings = google_settings(addresses["amapiUrl"], addresses["pubsubUrl"])
    return "\n".join(f"export HELIOGRAPH_{name.upper()}={shlex.quote(value)}" for name, value in settings.items())


def once_up(ask: Callable[[], T], lives: Callable[[], bool]) -> T:
    """What `ask` answers, once the lab is up. One that is being started is waited for as long as it `lives`, but no
    longer than LONGEST_S; for one that shows no sign of life, SIGN_S. Raises Failure.
    """
    began, seen = time.monotonic(), False
    while True:
        alive = lives()
        try:
            return ask()
        except NotUp:
            if seen and not alive:
                ended = "the lab that was being started has ended: what it printed says why"
                raise Failure(ExitCode.UNREACHABLE, ended) from None
            if time.monotonic() - began > (LONGEST_S if alive else SIGN_S):
                raise
        if alive and not seen:
            seen = True
            remark_waiting("Waiting for the lab, which is being started …")
        time.sleep(_LOOK_AGAIN_S)


def _new_key() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
