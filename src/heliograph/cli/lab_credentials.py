"""A service account's key file for the lab: as Google gives them out, but for where tokens are asked for."""

import json
import os
import re
import secrets
import shlex
from pathlib import Path

from heliograph.cli.exits import usage

_PROJECT = r"[a-z][a-z0-9-]{4,28}[a-z0-9]"
_KEY_BITS = 2048


def write_key_file(path: Path, project: str, amapi_url: str) -> None:
    """Write a new key file with mode 0600. Raises Failure."""
    if re.fullmatch(_PROJECT, project) is None:
        raise usage("--project: 6 to 30 lower-case letters, digits and hyphens, such as lab-project")
    number = "".join(secrets.choice("0123456789") for _ in range(21))
    members = {
        "type": "service_account",
        "project_id": project,
        "private_key_id": secrets.token_hex(20),
        "private_key": _new_key(),
        "client_email": f"heliograph@{project}.iam.gserviceaccount.com",
        "client_id": number,
        "token_uri": f"{amapi_url}/token",
    }
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise usage(f"{path} is there already: choose another name, or remove it if it is not needed") from None
    except OSError as error:
        raise usage(f"{path} cannot be written: {error.strerror}") from None
    with os.fdopen(handle, "w") as file:
        file.write(json.dumps(members, indent=2) + "\n")


def google_settings(amapi_url: str, pubsub_url: str) -> dict[str, str]:
    """The settings of a server whose Google is a lab, by their names."""
    return {"amapi_url": amapi_url, "pubsub_url": pubsub_url, "google_certs_url": f"{pubsub_url}/certs"}


def exports(addresses: dict[str, str]) -> str:
    """The commands that lead a server to the lab."""
    settings = google_settings(addresses["amapiUrl"], addresses["pubsubUrl"])
    return "\n".join(f"export HELIOGRAPH_{name.upper()}={shlex.quote(value)}" for name, value in settings.items())


def _new_key() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
