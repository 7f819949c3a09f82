"""Both token services: client credentials (RFC 6749, 4.4) for an access token that says whose it is and when it ends.

https://login.live.com/accesstoken.srf for apps of the Store, Entra's for the Windows App SDK.
"""

import base64
import re
import secrets
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qs

Service = Literal["store", "entra"]
SCOPES: dict[Service, str] = {"store": "notify.windows.com", "entra": "https://wns.windows.com/.default"}
_TOKEN = "EgLab."  # noqa: S105 - the beginning of each; service, app and end follow, so that a restart forgets none
_SID = re.compile(r"ms-app://s-1-15-2(-[0-9]{1,10})+", re.IGNORECASE)
# Of Entra: the application is unknown, the secret is wrong, the scope is wrong.
_NUMBERS = {"unauthorized_client": 700016, "invalid_client": 7000215, "invalid_scope": 70011}


class Bearer(NamedTuple):
    """Whom an access token speaks for."""

    service: Service
    app: str


def exchange(
    service: Service, form: bytes, known: Mapping[str, str], now: float, life: float
) -> tuple[int, dict[str, Any]]:
    """The answer to a token request: status and body. `known`: the secrets of apps; others may have any."""
    try:
        fields = {name: values[-1] for name, values in parse_qs(form.decode("ascii"), strict_parsing=True).items()}
    except ValueError:
        return _refused(service, "invalid_request", "The body must be form-encoded.")
    app, secret = fields.get("client_id", ""), fields.get("client_secret", "")
    if fields.get("grant_type") != "client_credentials":
        return _refused(service, "unsupported_grant_type", "The grant type must be client_credentials.")
    if not app or (_SID.fullmatch(app) is not None) != (service == "store"):
        return _refused(service, "unauthorized_client", "The client is not known to this service.")
    if not secret or secret != known.get(app, secret):
        return _refused(service, "invalid_client", "Invalid client secret provided.")
    if fields.get("scope") != SCOPES[service]:
        return _refused(service, "invalid_scope", f"The scope must be {SCOPES[service]}.")
    name = base64.urlsafe_b64encode(app.encode()).decode().rstrip("=")
    token = f"{_TOKEN}{service}.{name}.{int(now + life):x}.{secrets.token_urlsafe(32)}"
    return 200, {"token_type": "bearer", "access_token": token, "expires_in": int(life)}


def read_token(token: str, now: float) -> Bearer | None:
    """Whom a token speaks for; None when it was not given out here, or has ended."""
    found = re.fullmatch(re.escape(_TOKEN) + r"(store|entra)\.([\w-]+)\.([0-9a-f]{1,12})\.[\w-]{43}", token, re.ASCII)
    if found is None or int(found[3], 16) <= now:
        return None
    try:
        app = base64.urlsafe_b64decode(found[2] + "=" * (-len(found[2]) % 4)).decode()
    except ValueError:
        return None
    return Bearer("store" if found[1] == "store" else "entra", app)


def _refused(service: Service, error: str, description: str) -> tuple[int, dict[str, Any]]:
    body: dict[str, Any] = {"error": error, "error_description": description}
    if service == "entra" and error in _NUMBERS:
        body |= {"error_description": f"AADSTS{_NUMBERS[error]}: {description}", "error_codes": [_NUMBERS[error]]}
    return (401 if service == "entra" and error == "invalid_client" else 400), body
