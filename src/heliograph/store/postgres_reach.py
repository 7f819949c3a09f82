"""Whether a PostgreSQL lets us in, asked once before anything is built on it, and if not, what an operator can do."""

import socket
import ssl
from urllib.parse import unquote, urlsplit

import asyncpg

from heliograph.domain.errors import InvalidInput, StoreUnavailable
from heliograph.store.postgres_errors import DATABASE_ERRORS, translate

_TIMEOUT_S = 10.0
_NO_URL = (
    "The database URL is not valid: postgresql://USER:PASSWORD@HOST:PORT/NAME, "
    "with %2F %3F %23 %40 %25 for / ? # @ % in the password"
)


async def reach(dsn: str) -> None:
    """Connect and let go. Raises StoreUnavailable, saying why, or InvalidInput for what is no URL."""
    try:
        connection = await asyncpg.connect(dsn, timeout=_TIMEOUT_S)
    except ssl.SSLError as error:  # of which one kind is a ValueError, too
        raise _explained(error, dsn) or translate(error) from None
    except (ValueError, asyncpg.ClientConfigurationError):
        raise InvalidInput(message=_NO_URL) from None
    except DATABASE_ERRORS as error:
        if _is_broken(dsn):
            raise InvalidInput(message=_NO_URL) from None
        raise _explained(error, dsn) or translate(error) from None
    await connection.close()


def _is_broken(dsn: str) -> bool:
    """Whether a character of the password has ended the address: what comes before it then looks like host and port."""
    parts = urlsplit(dsn)
    behind = "@" in parts.path + parts.fragment or ("@" in parts.query and "=" not in parts.query.partition("@")[0])
    return behind and "@" not in parts.netloc


def _explained(error: BaseException, dsn: str) -> StoreUnavailable | None:
    """In words that hold the URL's parts except its password."""
    parts = urlsplit(dsn)
    user = f"user {unquote(parts.username)!r}" if parts.username else "this user"
    database = unquote(parts.path.lstrip("/")) or "of that name"
    match error:
        case asyncpg.InvalidPasswordError():
            return StoreUnavailable(f"PostgreSQL refused the password of {user} (or knows no such user)")
        case asyncpg.InvalidAuthorizationSpecificationError():
            return StoreUnavailable(
                f"PostgreSQL does not let {user} in: is there such a role (createuser), and does pg_hba.conf allow it?"
            )
        case asyncpg.InvalidCatalogNameError():
            return StoreUnavailable(f"PostgreSQL has no database {database}: createdb {database}")
        case OSError() | TimeoutError():
            where = parts.netloc.rpartition("@")[2] or "this machine"
            return StoreUnavailable(f"PostgreSQL cannot be reached at {where}: {_reason(error)}")
        case _:
            return None


def _reason(error: OSError | TimeoutError) -> str:
    match error:
        case socket.gaierror():
            return "no such host"
        case TimeoutError():
            return f"no answer within {_TIMEOUT_S:.0f} s"
        case ConnectionRefusedError():
            return "connection refused"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error.verify_message}"
        case ssl.SSLError():
            return "TLS failed"
        case ConnectionError() if "SSL" in str(error):
            return "it takes no TLS, for which sslmode asks"
        case OSError() if error.strerror:  # also of a certificate or key that the URL names
            return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
        case _:
            return "no connection"
