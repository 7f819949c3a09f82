"""What the errors of PostgreSQL and of its driver mean to a caller. Never a statement, a value or an address."""

import asyncpg

from heliograph.domain.errors import Conflict, HeliographError, OutcomeUnknown, StoreUnavailable
from heliograph.store.database import cannot_be_stored, not_migrated

_UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.InvalidCachedStatementError,  # a migration under our feet; the next try plans anew
)
# No answer came, or none that says whether it was committed.
_LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
)
# Where the operator has to do something, and it is not that the database is away.
_WHY: dict[type[BaseException], str] = {
    asyncpg.InsufficientPrivilegeError: "PostgreSQL refuses its role a right: let the role own the database and all "
    "tables in it (ALTER DATABASE NAME OWNER TO ROLE)",
    asyncpg.ReadOnlySQLTransactionError: "PostgreSQL takes no writes: it is a standby, or set to read-only",
}
_BAD_VALUE = (asyncpg.DataError, UnicodeError, OverflowError)


DATABASE_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    *_BAD_VALUE,
    *_UNAVAILABLE,
)


def translate(error: BaseException, *, sent: bool = False) -> BaseException:
    """The error to raise instead. `sent`: it was something to write, and may have reached the database."""
    if isinstance(error, HeliographError):
        return error
    if sent and isinstance(error, _LOST) and not isinstance(error, ValueError | asyncpg.QueryCanceledError):
        return OutcomeUnknown()
    # The driver's own complaint about an argument is both of these.
    if isinstance(error, _BAD_VALUE) or (isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError)):
        return cannot_be_stored()
    if isinstance(error, asyncpg.IntegrityConstraintViolationError):
        return Conflict("A record with these unique values exists, or one it refers to does not")
    if isinstance(error, asyncpg.UndefinedTableError | asyncpg.UndefinedColumnError):
        return not_migrated()
    if isinstance(error, _UNAVAILABLE):
        return StoreUnavailable(_WHY.get(type(error), ""))
    return error


def passes(error: BaseException) -> bool:
    """Whether the same work may succeed when it is simply done again (a deadlock was resolved at our cost)."""
    return isinstance(error, asyncpg.TransactionRollbackError)


def is_unavailable(error: BaseException) -> bool:
    """Whether the database, rather than the work, is at fault."""
    return isinstance(translate(error), StoreUnavailable) and not passes(error)


def describe(error: BaseException) -> str:
    """An error for the log, without values."""
    return f"{type(error).__name__} {getattr(error, 'sqlstate', None) or ''}".strip()
