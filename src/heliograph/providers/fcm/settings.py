"""The settings of an account at FCM."""

from typing import Any

import msgspec

from heliograph.domain.errors import InvalidInput
from heliograph.domain.fields import Fields
from heliograph.outbound import is_address
from heliograph.outbound.google import KEPT_MEMBERS, TOKEN_ADDRESSES, read_service_account
from heliograph.providers import whole_number
from heliograph.providers.transport import SERVER_HELP, read_server

BASE_URL = "https://fcm.googleapis.com"
PER_MINUTE = "requestsPerMinute"
REQUESTS_PER_MINUTE = 600_000  # https://firebase.google.com/docs/cloud-messaging/throttling-and-quotas
PROJECT = r"[a-z0-9][a-z0-9:.-]{0,99}"
HELP = {
    "serviceAccount": "The key file of a service account that may send (Firebase console, Project settings, Service "
    "accounts, Generate new private key)",
    "projectId": "The Firebase project, where it is not the service account's own",
    "tokenUrl": "Address that gives access tokens, where it is not Google's; a key file that names another is refused "
    "unless it is the one said here",
    **SERVER_HELP,
    PER_MINUTE: f"What Google gives the project (default {REQUESTS_PER_MINUTE}; 0 = no limit)",
}


def read_config(fields: Fields) -> dict[str, Any]:
    """See `ports.push.ProviderPlugin`."""
    fields.only(HELP)
    account = _read_account(fields)
    token_url = fields.text("tokenUrl", max_length=2048)
    if token_url is not None and not is_address(token_url):
        fields.wrong("tokenUrl", "must be an http or https address without user, query or fragment")
    if account is not None and account["token_uri"] not in (*TOKEN_ADDRESSES, token_url):
        reason = "names a token_uri that is not Google's: repeat that address as tokenUrl if you trust it"
        fields.wrong("serviceAccount", reason)
    meaning = "must be the id of a Firebase project, such as my-project-1"
    project = fields.text("projectId", pattern=PROJECT, meaning=meaning)
    if account is not None and project is None:
        project = Fields(account, fields.path, fields.errors).text("project_id", pattern=PROJECT, meaning=meaning)
        if project is None:
            fields.wrong("projectId", "is required, for the key file names no project")
    server, per_minute = read_server(fields), whole_number(fields, PER_MINUTE, REQUESTS_PER_MINUTE, 10_000_000)
    fields.raise_if_wrong()
    named = {} if token_url is None else {"tokenUrl": token_url}
    return {"serviceAccount": account, "projectId": project, PER_MINUTE: per_minute, **server, **named}


def _read_account(fields: Fields) -> dict[str, Any] | None:
    """What is kept of the key file, which comes as text or as an object."""
    raw = fields.raw.get("serviceAccount")
    if raw is None:
        fields.wrong("serviceAccount", "is required")
        return None
    try:
        account = read_service_account(raw.encode() if isinstance(raw, str) else msgspec.json.encode(raw))
    except (InvalidInput, ValueError, TypeError, RecursionError) as error:
        fields.wrong("serviceAccount", str(error) if isinstance(error, InvalidInput) else "cannot be read")
        return None
    return {name: account[name] for name in KEPT_MEMBERS if name in account}
