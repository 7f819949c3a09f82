"""What an operator is told when PostgreSQL does not let us in."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import asyncpg
import pytest

from heliograph.domain.errors import InvalidInput, StoreUnavailable
from heliograph.store.postgres_reach import reach


def distrusted(why: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "no")
    error.verify_message = why
    return error


DSN = "postgresql://heli%20o:canary@db.example:5433/fleet"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (asyncpg.InvalidPasswordError("no"), "refused the password of user 'heli o' (or knows no such user)"),
        (asyncpg.InvalidAuthorizationSpecificationError("no"), "does not let user 'heli o' in"),
        (asyncpg.InvalidCatalogNameError("no"), "no database fleet: createdb fleet"),
        (ConnectionRefusedError(111, "no"), "cannot be reached at db.example:5433: connection refused"),
        (socket.gaierror(-2, "no"), "cannot be reached at db.example:5433: no such host"),
        (TimeoutError(), "no answer within 10 s"),
        (ConnectionError("PostgreSQL server at 'db.example:5433' rejected SSL upgrade"), "it takes no TLS, for which"),
        (FileNotFoundError(2, "No such file or directory"), "db.example:5433: No such file or directory"),
        (FileNotFoundError(2, "No such file or directory", "ca.pem"), "ca.pem: No such file or directory"),
        (distrusted("self-signed certificate"), "its certificate is not trusted: self-signed certificate"),
        (ssl.SSLError(1, "[SSL] no"), "TLS failed"),
        (asyncpg.TooManyConnectionsError("no"), "does not answer"),
    ],
)
async def test_each_refusal_says_what_it_is(monkeypatch: pytest.MonkeyPatch, error: Exception, said: str) -> None:
    async def connect(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(asyncpg, "connect", connect)
    with pytest.raises(StoreUnavailable) as caught:
        await reach(DSN)
    assert (said in str(caught.value), "canary" in str(caught.value)) == (True, False)


@pytest.mark.parametrize("password", ["ca/nary", "12/canary", "ca#nary", "12#canary", "12?canary"])
async def test_a_password_that_breaks_the_url_is_called_that_and_not_shown(password: str) -> None:
    """With digits before, they look like a port: it must not be told that there is no such host `heli:12`."""
    with pytest.raises(InvalidInput) as caught:
        await reach(f"postgresql://heli:{password}@127.0.0.1:1/fleet")
    said = str(caught.value)
    assert ("%2F" in said, "canary" in said, "heli" in said) == (True, False, False)
