"""The resources of Google's Pub/Sub as its REST API writes them; the members are those of the discovery document."""

from datetime import UTC, datetime
from typing import Any

import msgspec

DEFAULT_ACK_DEADLINE = 10
MOST_ACK_DEADLINE = 600
DEFAULT_RETENTION = "604800s"
DEFAULT_TTL = "2678400s"
DELETED_TOPIC = "_deleted-topic_"
NEVER = datetime.max.replace(tzinfo=UTC)


class Wire(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True, rename="camel"):
    """A message of the API. `None` and empty mean absent, as in proto3 JSON."""


class OidcToken(Wire, frozen=True):
    """Whose identity signs the pushes, and for whom."""

    service_account_email: str = ""
    audience: str = ""


class PushConfig(Wire, frozen=True):
    """Where to push. An empty endpoint means that the subscriber pulls."""

    push_endpoint: str = ""
    attributes: dict[str, str] | None = None
    oidc_token: OidcToken | None = None
    pubsub_wrapper: dict[str, Any] | None = None
    no_wrapper: Any = None


class RetryPolicy(Wire, frozen=True):
    """How long a message rests after a negative acknowledgement or a missed deadline."""

    minimum_backoff: str = "10s"
    maximum_backoff: str = "600s"


class ExpirationPolicy(Wire, frozen=True):
    """After how much idleness the subscription is deleted; no `ttl`: never."""

    ttl: str | None = None


class Topic(Wire, frozen=True):
    """What messages are published to."""

    name: str = ""
    labels: dict[str, str] | None = None
    tags: dict[str, str] | None = None
    kms_key_name: str = ""
    message_retention_duration: str | None = None
    message_storage_policy: dict[str, Any] | None = None
    satisfies_pzs: bool = False
    state: str = ""
    schema_settings: Any = None
    ingestion_data_source_settings: Any = None
    message_transforms: Any = None


class Subscription(Wire, frozen=True):
    """Who gets a topic's messages, and how."""

    name: str = ""
    topic: str = ""
    push_config: PushConfig | None = None
    ack_deadline_seconds: int = 0
    message_retention_duration: str | None = None
    expiration_policy: ExpirationPolicy | None = None
    retry_policy: RetryPolicy | None = None
    labels: dict[str, str] | None = None
    tags: dict[str, str] | None = None
    state: str = ""
    topic_message_retention_duration: str | None = None
    analytics_hub_subscription_info: Any = None
    retain_acked_messages: bool = False
    enable_message_ordering: bool = False
    enable_exactly_once_delivery: bool = False
    detached: bool = False
    filter: str = ""
    dead_letter_policy: Any = None
    bigquery_config: Any = None
    bigtable_config: Any = None
    cloud_storage_config: Any = None
    message_transforms: Any = None

    @property
    def endpoint(self) -> str:
        """Where its messages are pushed; empty when they are pulled."""
        return self.push_config.push_endpoint if self.push_config else ""


class PubsubMessage(Wire, frozen=True):
    """One message as a publisher hands it in."""

    data: str = ""
    attributes: dict[str, str] | None = None
    ordering_key: str = ""
    message_id: str = ""
    publish_time: str = ""


class Binding(Wire, frozen=True):
    """Who has a role."""

    role: str = ""
    members: list[str] | None = None
    condition: Any = None


class Policy(Wire, frozen=True):
    """Who may do what with a resource."""

    version: int = 0
    etag: str = ""
    bindings: list[Binding] | None = None


NOT_MODELLED: dict[type[Wire], tuple[str, ...]] = {
    Topic: ("schema_settings", "ingestion_data_source_settings", "message_transforms"),
    Subscription: (
        "retain_acked_messages",
        "enable_message_ordering",
        "enable_exactly_once_delivery",
        "filter",
        "dead_letter_policy",
        "bigquery_config",
        "bigtable_config",
        "cloud_storage_config",
        "message_transforms",
    ),
    PushConfig: ("no_wrapper",),
    PubsubMessage: ("ordering_key",),
    Binding: ("condition",),
}
"""What would change the behaviour and is refused with 501, so that nobody takes silence for Google's word."""


class Message(msgspec.Struct, kw_only=True, frozen=True):
    """A published message as it is on disk. `data` is base64 text, or what a test wants in its place."""

    id: str
    topic: str
    published_at: datetime
    data: str = ""
    attributes: dict[str, str] = {}
    due: datetime
    """Not handed out before: the time of publication unless it is delayed on purpose."""
    origin: str = ""
    """The enterprise whose notification it is; empty for other messages."""
    deliveries: int = 1
    """How many acknowledgements each subscription owes: more than one is a redelivery on purpose."""
