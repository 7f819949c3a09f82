"""What comes before the first device of a Google enterprise. Times are microseconds since the epoch (UTC)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SignUp:
    """A sign-up at Google that no enterprise is connected from yet; one for each project.

    `name` and `url` are Google's. `listed`: the project's enterprises just before one was to be made from it, so that
    after an attempt without an answer the new one is recognised; None while none was attempted.
    """

    id: str
    organization_id: str
    project: str
    name: str
    url: str
    created_at: int
    listed: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class EnrollmentToken:
    """An enrollment token that was made here, without its value. Google never shows most of this again.

    `name` is Google's, which an enrolled device repeats. `personal_usage` is a PERSONAL_USAGE_… of Google's.
    """

    id: str
    organization_id: str
    enterprise_id: str
    name: str
    created_at: int
    expires_at: int | None = None
    additional_data: str | None = None
    policy_name: str | None = None
    personal_usage: str | None = None
    one_time_only: bool = False
