"""The port through which an enterprise is set up at Google, and its set-up is looked at. Answers are values."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol


class FaultKind(StrEnum):
    """What kind of fault it is, since that decides what a person has to do."""

    UNREACHABLE = "unreachable"  # no answer, or none of Google's: it may have been done
    NO_TOKEN = "no_token"  # noqa: S105 - the credentials give no access token
    DISABLED = "disabled"  # the API is not enabled in the project
    FORBIDDEN = "forbidden"
    MISSING = "missing"
    QUOTA = "quota"
    EXISTS = "exists"  # is there already, or was changed meanwhile
    REFUSED = "refused"  # the request itself


@dataclass(frozen=True, slots=True)
class Fault:
    """Why there is no answer. `reason` is for people; `after_s` from Retry-After."""

    kind: FaultKind
    reason: str
    after_s: float | None = None


Resource = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list of enterprises; `next_token` is empty on the last one."""

    items: list[Resource]
    next_token: str = ""


class EnterpriseDesk(Protocol):
    """Enterprises at the Android Management API. Resources are Google's own."""

    async def sign_up(self, callback_url: str | None) -> Resource | Fault:
        """A new sign-up URL for the credentials' project: `name`, `url`."""
        ...

    async def create(self, sign_up: str, token: str, display_name: str) -> Resource | Fault:
        """The enterprise that a completed sign-up stands for. Not to be repeated after UNREACHABLE."""
        ...

    async def page(self, page_token: str) -> Page | Fault:
        """A page of the enterprises of the credentials' project; the first one has no token."""
        ...

    async def get(self, name: str) -> Resource | Fault:
        """One enterprise."""
        ...

    async def notify(self, name: str, topic: str, kinds: Sequence[str]) -> Resource | Fault:
        """Have an enterprise tell what happens, in these kinds of notifications, on a topic."""
        ...

    async def enroll(self, name: str, token: Resource) -> Resource | Fault:
        """A new enrollment token of an enterprise."""
        ...


class TopicDesk(Protocol):
    """Topics and subscriptions at Pub/Sub. Resources are Google's own."""

    async def get(self, name: str) -> Resource | Fault:
        """A topic or a subscription."""
        ...

    async def create(self, name: str, resource: Resource) -> Resource | Fault:
        """A new topic or subscription."""
        ...

    async def never_expire(self, subscription: str) -> Resource | Fault:
        """Let a subscription stay however long nobody asks for its messages."""
        ...

    async def policy(self, topic: str) -> Resource | Fault:
        """Who may do what with a topic."""
        ...

    async def set_policy(self, topic: str, policy: Resource) -> Resource | Fault:
        """Change that; EXISTS: somebody else was faster, read it again."""
        ...

    async def publish_test(self, topic: str) -> Resource | Fault:
        """Publish a notification of the kind TEST, which means nothing."""
        ...


class Administration(Protocol):
    """All of Google that one service account reaches. To be closed."""

    @property
    def project(self) -> str:
        """The project of the service account, as the key file says."""
        ...

    @property
    def payer(self) -> str:
        """Whose quota its requests count against, once `authorise` has proved it."""
        ...

    @property
    def account(self) -> str:
        """The service account's address."""
        ...

    @property
    def address(self) -> str:
        """Where the API is asked: host, and port if it is not the usual one."""
        ...

    @property
    def token_address(self) -> str:
        """Where the key's access tokens are asked for, in the same form."""
        ...

    @property
    def proxies(self) -> Sequence[str]:
        """The proxies that requests may go through, without their passwords."""
        ...

    @property
    def enterprises(self) -> EnterpriseDesk:
        """Enterprises."""
        ...

    @property
    def topics(self) -> TopicDesk:
        """Topics and subscriptions."""
        ...

    async def google_time_s(self) -> float | Fault:
        """When Google says that it is, in seconds since the epoch; needs no credentials."""
        ...

    async def authorise(self) -> Fault | None:
        """Get an access token; None = there is one."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
