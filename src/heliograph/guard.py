"""Where requests may go that somebody else named the address of: a device's push endpoint, a webhook; and how much is
read of what is answered there.

The rules hold for what is connected to, not for how it is written: the name is resolved here, once for each
connection, each address that comes out is judged, and the connection is made to one that passed. A name that means
something else a moment later, or a number in another spelling, changes nothing. TLS still proves the name. No proxy is
used, since it would resolve the name once more; redirects are never followed (`heliograph.outbound`).
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import contextmanager
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from ssl import SSLContext
from typing import Any

import httpcore2
import httpx2

from heliograph.look_ups import look_ups
from heliograph.outbound import AddressRefused, tls

Resolve = Callable[[str, int], Awaitable[list[str]]]
Origin = tuple[str, str, int]  # scheme, host in lower case, port

PORTS = frozenset({443, 8443})
MAX_URL = 2048
_DEFAULT_PORTS = {"http": 80, "https": 443}
_PUBLIC_ONLY = "it is at no public address"
_ATTEMPT_S = 4.0  # for one of several addresses
_MOST_ATTEMPTS = 4
_CONNECTIONS = 100
_IDLE_S = 30.0
_MOST_ANSWERED = 32 * 1024  # bytes of an answer, with all that is around its body
_PIECE = 4096  # bytes of it at a time

# What `is_global` lets through, or did in older releases of Python.
# https://www.iana.org/assignments/iana-ipv4-special-registry
_NOT_PUBLIC_V4 = tuple(
    IPv4Network(text)
    for text in (
        "100.64.0.0/10",  # carrier-grade NAT
        "168.63.129.16/32",  # Azure's machines ask their host here: public by its number alone
        "192.0.0.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "198.18.0.0/15",
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
)
_UNICAST_V6 = IPv6Network("2000::/3")  # all that has been given out
_NOT_PUBLIC_V6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # Teredo, benchmarking, ORCHID
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address inside
        "3fff::/20",  # documentation
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: how a network without IPv4 writes an IPv4 address


def is_public(text: str) -> bool:
    """Whether an address, as a resolver writes it, is one of the public internet."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address in _NAT64:
        address = IPv4Address(int(address) & 0xFFFFFFFF)
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in network for network in _NOT_PUBLIC_V4)
    known = address in _UNICAST_V6 and not any(address in network for network in _NOT_PUBLIC_V6)
    return known and address.is_global and address.scope_id is None


def origin_of(url: str) -> Origin | None:
    """Scheme, host and port of an absolute http or https address; None where it is none, or names a user."""
    try:
        parsed = httpx2.URL(url)  # the parser of whoever connects, so that there is no second opinion
    except (httpx2.InvalidURL, ValueError, TypeError):
        return None
    port = parsed.port if parsed.port is not None else _DEFAULT_PORTS.get(parsed.scheme, 0)
    named = re.fullmatch(r"[0-9A-Za-z._:-]{1,253}", parsed.host)
    whole = parsed.scheme in _DEFAULT_PORTS and named and 0 < port < 65536
    return (parsed.scheme, parsed.host.lower(), port) if whole and not parsed.userinfo and "@" not in url else None


def url_fault(url: str, max_length: int = MAX_URL) -> str | None:
    """Why this is no address to send to, whoever allows what; None where nothing is wrong with it."""
    if not 0 < len(url) <= max_length:
        return f"must have 1 to {max_length} characters"
    if not url.isascii() or not url.isprintable() or re.search(r"[\s\\#<>\"]", url):
        return "must be printable ASCII without spaces, quotes, backslashes or fragment"
    if origin_of(url) is None:
        return "must be an absolute https address without a user"
    return None


def _is_number(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class Guard:
    """The rules. `allowed`: origins that the operator names; there any address, port and plain http will do.

    `organization_id`: whose share of the look-ups is used; without it, the guard has one of its own.
    `resolve(host, port)` gives a name's addresses, or raises OSError or NoConnection.
    """

    def __init__(
        self, allowed: Iterable[str] = (), *, organization_id: str = "", resolve: Resolve | None = None
    ) -> None:
        self._origins = frozenset(origin for url in allowed if (origin := origin_of(url)))
        self._places = frozenset((host, port) for _, host, port in self._origins)
        self._resolve = resolve or partial(look_ups().find, organization_id or object())

    def fault(self, url: str) -> str | None:
        """Why nothing is sent to this URL, as far as it shows without a look-up."""
        fault = url_fault(url)
        origin = origin_of(url)
        if fault or origin is None:
            return fault
        if origin in self._origins:
            return None
        scheme, _, port = origin
        if scheme != "https":
            return "it is not https"
        return None if port in PORTS else f"its port is not one of {', '.join(map(str, sorted(PORTS)))}"

    async def addresses(self, host: str, port: int) -> list[str]:
        """The addresses that may be connected to under this name. Raises OSError and NoConnection."""
        found = [host] if _is_number(host) else await self._resolve(host, port)
        if (host.lower(), port) in self._places:
            return found
        public = [address for address in found if port in PORTS and is_public(address)]
        if not public:
            raise AddressRefused(_PUBLIC_ONLY)
        return public

    def transport(self, context: SSLContext | None = None) -> "GuardedTransport":
        """A transport for `Outbound` that keeps these rules."""
        return GuardedTransport(self, context or tls())


class _Stream(httpcore2.AsyncNetworkStream):
    """A connection on which answers are short. Each part of one takes the event loop's time, however small it is: a
    service that never ends its chunks, or what it says before the answer, would have all of it.
    """

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream
        self._left = _MOST_ANSWERED

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The next piece of an answer; ReadError where it is too long."""
        if self._left <= 0:
            raise httpcore2.ReadError("the answer is too long")
        if self._left < _MOST_ANSWERED:
            await asyncio.sleep(0)  # what has come already is read without waiting
        piece = await self._stream.read(min(max_bytes, _PIECE), timeout)
        self._left -= len(piece)
        return piece

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """A part of a request, after which another answer begins."""
        self._left = _MOST_ANSWERED
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close it."""
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        """The same under TLS."""
        return _Stream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """What is known of the connection."""
        return self._stream.get_extra_info(info)


class _Network(httpcore2.AsyncNetworkBackend):
    """Connects to addresses that the guard has let through, and to nothing else."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._sockets = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore2.AsyncNetworkStream:
        """One look-up, then one address after the other."""
        try:
            addresses = (await self._guard.addresses(host, port))[:_MOST_ATTEMPTS]
        except (OSError, UnicodeError) as error:  # UnicodeError: a label that is too long
            raise httpcore2.ConnectError("the name cannot be resolved") from error
        last: Exception = httpcore2.ConnectError("the name has no address")
        for address in addresses:
            within = timeout if len(addresses) == 1 else min(timeout or _ATTEMPT_S, _ATTEMPT_S)
            try:
                return _Stream(await self._sockets.connect_tcp(address, port, within, local_address, socket_options))
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                last = error
        raise last


_CORE_FAULTS = (
    httpcore2.ProtocolError,
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.UnsupportedProtocol,
)


@contextmanager
def _renamed() -> Any:
    """httpcore2's exceptions as the httpx2 ones of the same name, which `Outbound` knows."""
    try:
        yield
    except _CORE_FAULTS as error:
        raise getattr(httpx2, type(error).__name__)(str(error)) from error


class _Body(httpx2.AsyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _renamed():
            async for part in self._stream:
                yield part

    async def aclose(self) -> None:
        with _renamed():
            await self._stream.aclose()


class GuardedTransport(httpx2.AsyncBaseTransport):
    """HTTP/1.1 with a pool of connections for each origin, all of them made under the guard's rules."""

    def __init__(self, guard: Guard, context: SSLContext) -> None:
        self._guard = guard
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=context,
            max_connections=_CONNECTIONS,
            keepalive_expiry=_IDLE_S,
            network_backend=_Network(guard),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request, or raise AddressRefused."""
        url = request.url
        fault = self._guard.fault(str(url))
        if fault:
            raise AddressRefused(fault)
        target = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        core = httpcore2.Request(
            request.method, target, headers=request.headers.raw, content=request.stream, extensions=request.extensions
        )
        with _renamed():
            answer = await self._pool.handle_async_request(core)
        return httpx2.Response(
            answer.status, headers=answer.headers, stream=_Body(answer.stream), extensions=answer.extensions
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.aclose()
