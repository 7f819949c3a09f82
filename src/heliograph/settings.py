"""Settings, read once at start-up from the environment (`HELIOGRAPH_…`) and from the command line, which wins."""

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from heliograph.system import decode_key

_Address = Annotated[str, Field(pattern=r"^https?://[^\s/]+(/\S*)?$")]
_Upper = BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value)


class Settings(BaseSettings):
    """Everything an operator may set. Durations in seconds."""

    model_config = SettingsConfigDict(env_prefix="HELIOGRAPH_", frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    data_dir: Path = Path("var")
    database: SecretStr | None = None
    """postgresql://… ; without it SQLite in the data directory."""
    secret_key: SecretStr | None = None
    """32 bytes in base64 or hex that encrypt secrets at rest; without it a file `secret.key` in the data directory."""
    trusted_proxies: str = ""
    """Addresses (comma-separated, or networks) whose X-Forwarded-For and X-Forwarded-Proto are believed."""
    requests_per_minute: int = Field(6000, ge=0)
    """Per API key and process; 0 = no limit."""
    organization_requests_per_minute: int = Field(30_000, ge=0)
    """Of all keys of an organization, per process; 0 = no limit."""
    check_ins_per_minute: int = Field(6000, ge=0)
    """Per device and process; 0 = no limit."""
    max_connections: int = Field(0, ge=0)
    """Per process; 0 = what the limit on open files leaves room for, which bounds any other number too."""
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], _Upper] = "INFO"
    log_format: Literal["auto", "json", "text"] = "auto"

    amapi_url: _Address = "https://androidmanagement.googleapis.com"
    tenant_addresses: str = ""
    """Addresses (comma-separated) that any API key may name in set-up, besides the built-in ones."""
    pubsub_url: _Address = "https://pubsub.googleapis.com"
    google_certs_url: _Address = "https://www.googleapis.com/oauth2/v3/certs"
    """Where the keys lie that sign the tokens of pushed notifications."""
    amapi_requests_per_minute: int = Field(600, ge=0)
    """Per Google project, all processes together; 0 = no limit."""
    look_up_cap_s: float = Field(30.0, gt=0)
    look_ups_per_minute: int = Field(120, gt=0)
    reconcile_every_s: float = Field(900.0, gt=0)
    device_missing_s: float = Field(600.0, ge=0)
    esim_pause_s: float = Field(180.0, ge=0)
    cancel_wait_s: float = Field(2.0, ge=0, le=3.5)
    uncertainty_window_s: float = Field(30.0, gt=0)
    backoff_cap_s: float = Field(30.0, gt=0)
    retry_after_cap_s: float = Field(45.0, gt=0)
    lease_s: float = Field(15.0, gt=0, le=15.0)
    dispatch_concurrency: int = Field(256, gt=0, le=1000)
    push_status_timeout_s: float = Field(2.0, gt=0, le=2.5)

    @field_validator("secret_key")
    @classmethod
    def _is_a_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and value.get_secret_value():
            decode_key(value.get_secret_value(), "it")
        return value

    @field_validator("host", "data_dir", mode="before")
    @classmethod
    def _is_there(cls, value: object) -> object:
        """Empty they would mean every address of this machine, and the present directory, which nobody has said."""
        if value == "":
            raise ValueError("is empty: give it a value, or leave it out")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_addresses(cls, value: str) -> str:
        """As uvicorn reads them, which takes what it cannot read for a name that no proxy ever has."""
        for part in filter(None, (part.strip() for part in value.split(","))):
            if part != "*":
                try:
                    ipaddress.ip_network(part)
                except ValueError:
                    raise ValueError(
                        "must be addresses or networks with commas between, such as 10.0.0.5 or 10.0.0.0/8, or *"
                    ) from None
        return value
