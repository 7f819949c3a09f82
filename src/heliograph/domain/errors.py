"""What can be wrong, in words of the domain. Each class has a stable `code`; HTTP is added in http/problems.py.

HeliographError
├── InvalidInput        a body, query or file says something that cannot be accepted; names every field
├── NotFound            no such record for this caller: unknown, foreign and malformed look alike
├── NotPending          the command is over (or its state rules the request out)
├── FeatureNotAllowed   the organization's plan leaves this out
├── PermissionMissing   the key does not hold the permission
├── Unauthenticated     no key, or one that is unknown, expired or revoked
├── Conflict            somebody else changed the record first; read again and retry
└── StoreUnavailable    the database did not answer; nothing was written
    └── OutcomeUnknown  it was told to write, and went away before it answered
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field that cannot be accepted: its path (`notification.body`) and the reason, without the value."""

    path: str
    reason: str


class HeliographError(Exception):
    """Base of all errors that a caller may see."""

    code = "error"

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (self.__doc__ or "").strip().splitlines()[0])


class InvalidInput(HeliographError):
    """Invalid input"""

    code = "invalid_input"

    def __init__(self, fields: list[FieldError] | None = None, message: str = "Invalid input") -> None:
        super().__init__(message)
        self.fields = fields or []

    @classmethod
    def of(cls, path: str, reason: str) -> "InvalidInput":
        """An error about one field."""
        return cls([FieldError(path, reason)])

    def __str__(self) -> str:
        details = "; ".join(f"{f.path}: {f.reason}" if f.path else f.reason for f in self.fields)
        return f"{self.args[0]}: {details}" if details else str(self.args[0])


class NotFound(HeliographError):
    """Entity not found"""

    code = "not_found"


class NotPending(HeliographError):
    """Command status not Pending"""

    code = "not_pending"


class FeatureNotAllowed(HeliographError):
    """Feature not allowed for you billing plan"""

    code = "feature_not_allowed"


class PermissionMissing(HeliographError):
    """Unauthorized"""

    code = "permission_missing"


class Unauthenticated(HeliographError):
    """Invalid Token"""

    code = "unauthenticated"


class NoToken(Unauthenticated):
    """No auth token"""

    code = "no_token"


class Conflict(HeliographError):
    """The record was changed by somebody else at the same time"""

    code = "conflict"


class StoreUnavailable(HeliographError):
    """The database does not answer; nothing was changed"""

    code = "store_unavailable"


class OutcomeUnknown(StoreUnavailable):
    """The database went away while it wrote: it may or may not have been stored, so look before you repeat it"""

    code = "outcome_unknown"
