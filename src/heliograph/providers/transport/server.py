"""The settings by which an operator has pushes go to another server than the service's own."""

from collections.abc import Mapping
from typing import Any

from heliograph.domain.fields import Fields
from heliograph.outbound import is_address
from heliograph.ports.transport import Endpoint
from heliograph.providers.transport.certificates import is_authority

HELP = {
    "baseUrl": "Address of another server (https), for tests",
    "ca": "PEM of an authority that vouches for that server, besides the system's",
}


def read_server(fields: Fields) -> dict[str, str]:
    """Those of the two that are said."""
    base_url = fields.text("baseUrl", max_length=2048)
    if base_url is not None and not (base_url.startswith("https://") and is_address(base_url)):
        fields.wrong("baseUrl", "must be an https address without user, query or fragment")
    ca = fields.text("ca", max_length=65_536)
    if ca is not None and not is_authority(ca):
        fields.wrong("ca", "must be certificates in PEM form")
    return {name: value for name, value in (("baseUrl", base_url), ("ca", ca)) if value is not None}


def endpoint(
    config: Mapping[str, Any], usual: str, *, certificate_pem: bytes | None = None, credential: str = ""
) -> Endpoint:
    """Where these settings lead to."""
    ca = config.get("ca")
    return Endpoint(
        (config.get("baseUrl") or usual).rstrip("/"),
        None if ca is None else ca.encode(),
        certificate_pem,
        credential,
    )
