"""Nothing is sent to an address that only this machine can reach, however a device writes it or its name resolves."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv6Address, ip_address
from typing import Any

import pytest
import trustme

from heliograph.guard import Guard, is_public, origin_of, url_fault
from heliograph.look_ups import look_ups
from heliograph.outbound import AddressRefused, NoReply, NotSent, Outbound, Reply
from tests.support.wire import Answer, Raw, Wire, closed_port

REFUSED_V4 = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
]
PUBLIC_V4 = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.1",
    "223.255.255.255",
]
REFUSED_V6 = [
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::1",
    "64:ff9b:1:ffff::8.8.8.8",
    "100::1",
    "100:0:0:1::1",
    "2001::1",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:808:808::1",
    "3fff::1",
    "3fff:fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]
PUBLIC_V6 = ["2606:4700:4700::1111", "2a00:1450:4001:800::200e", "64:ff9b::8.8.8.8"]


@pytest.mark.parametrize("address", REFUSED_V4 + REFUSED_V6 + ["", "x", "1.2.3", "1.2.3.4.5", "08.8.8.8"])
def test_what_is_not_of_the_public_internet(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC_V4 + PUBLIC_V6)
def test_what_is(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", REFUSED_V4 + PUBLIC_V4)
def test_an_ipv4_address_inside_an_ipv6_one_opens_nothing(address: str) -> None:
    number = int(ip_address(address))
    inside = [number, 0xFFFF << 32 | number, 0x2002 << 112 | number << 80, 0x2001 << 112 | (number ^ 0xFFFFFFFF)]
    assert not any(is_public(str(IPv6Address(one))) for one in inside)
    assert is_public(str(IPv6Address(0x64FF9B << 96 | number))) is is_public(address)


SPELLINGS = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "0",
    "0.0.0.0",
    "2130706433",
    "017700000001",
    "0x7f000001",
    "0x7f.1",
    "0x7f.0x0.0x0.0x1",
    "0177.0.0.1",
    "0177.0.0.01",
    "localhost",
    "LOCALHOST",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[2002:7f00:1::]",
    "[fe80::1]",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "[::ffff:a9fe:a9fe]",
]


@pytest.mark.parametrize("host", SPELLINGS)
async def test_every_spelling_of_a_forbidden_address_is_seen_through(host: str) -> None:
    # With the system's resolver: it is the one that knows what these mean.
    guard = Guard()
    with pytest.raises(AddressRefused):
        await guard.addresses(host.strip("[]"), 443)
    outbound = Outbound("", transport=guard.transport())
    answer = await outbound.exchange("POST", f"https://{host}/", deadline_s=30)
    assert isinstance(answer, NotSent)
    # A number with leading zeros is no URL to begin with.
    assert answer.forbidden or "InvalidURL" in answer.reason
    await outbound.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "/x",
        "//host/x",
        "ftp://host/x",
        "file:///etc/passwd",
        "https://",
        "https:///x",
        "https://user@host/",
        "https://user:word@host/",
        "https://host@10.0.0.1/",
        "https://host/@x",  # strict where parsers have disagreed
        "https://host\\@10.0.0.1/",
        "https://host:0/",
        "https://host:65536/",
        "https://host:x/",
        "https://ho st/",
        "https://host/a b",
        "https://host/\r\nX: y",
        "https://host/#fragment",
        "https://hößt/",
        "https://%6c%6f/",
        "https://[fe80::1%25eth0]/",
        "https://[::1/",
        "https://" + "h" * 254 + "/",
        "https://host/" + "x" * 2048,
    ],
)
def test_what_is_no_address_to_send_to(url: str) -> None:
    assert url_fault(url) is not None
    assert Guard().fault(url) is not None


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("https://push.example/x?up=1", None),
        ("https://push.example:443/x", None),
        ("https://push.example:8443/x", None),
        ("HTTPS://PUSH.example/x", None),
        ("https://push.example:22/x", "its port is not one of 443, 8443"),
        ("https://push.example:80/x", "its port is not one of 443, 8443"),
        ("http://push.example/x", "it is not https"),
        ("http://own.example:8080/x", None),
        ("http://OWN.example:8080/x", None),
        ("https://own.example:8080/x", "its port is not one of 443, 8443"),
        ("http://own.example/x", "it is not https"),
        ("https://own.example:9000/x", None),
    ],
)
def test_scheme_and_port(url: str, fault: str | None) -> None:
    assert Guard(["http://own.example:8080", "https://own.example:9000/"]).fault(url) == fault


def test_an_origin() -> None:
    assert origin_of("https://A.example/x") == ("https", "a.example", 443)
    assert origin_of("http://[::1]:8080/x") == ("http", "::1", 8080)
    assert origin_of("https://a.example") == origin_of("https://A.EXAMPLE:443/y?z")


# ---------------------------------------------------------------- connections


class Names:
    """A resolver. `answers` are used up; the last one stays."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers, self.asked = list(answers), 0

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@asynccontextmanager
async def listening(
    context: ssl.SSLContext | None = None, endless: bytes = b""
) -> AsyncIterator[tuple[int, Callable[[], int]]]:
    """A port of 127.0.0.1, and how often somebody has connected to it. `endless`: an answer that has no end."""
    connections = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        with suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            await reader.readline()
            if endless:
                writer.write(endless)
                await reader.read()  # until the client lets go
            writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1], lambda: len(connections)
    server.close()
    await server.wait_closed()


@pytest.fixture
def public_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.1 counts as public, and any port will do: there is nothing else here that could be connected to."""
    monkeypatch.setattr("heliograph.guard.is_public", lambda address: address == "127.0.0.1")
    monkeypatch.setattr("heliograph.guard.PORTS", frozenset(range(65536)))


@pytest.mark.usefixtures("public_loopback")
async def test_a_name_is_looked_up_once_for_a_connection_and_what_was_judged_is_connected_to() -> None:
    # Whoever looked the name up a second time, to connect, would get the second answer.
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    authority = trustme.CA()
    ours, theirs = ssl.create_default_context(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.configure_trust(ours)
    authority.issue_cert("push.example").configure_cert(theirs)
    async with listening(theirs) as (port, count):
        outbound = Outbound("", transport=Guard(resolve=names).transport(ours))
        url = f"https://push.example:{port}/x"
        first = await outbound.exchange("POST", url, deadline_s=30)
        assert isinstance(first, Reply)
        assert (first.status, names.asked, count()) == (201, 1, 1)
        # The connection is gone, so the name is looked up anew, and means something else now.
        second = await outbound.exchange("POST", url, deadline_s=30)
        assert isinstance(second, NotSent)
        assert (second.forbidden, names.asked, count()) == (True, 2, 1)
        await outbound.close()


@pytest.mark.usefixtures("public_loopback")
async def test_tls_proves_the_name_and_not_the_address() -> None:
    authority = trustme.CA()
    ours, theirs = ssl.create_default_context(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.configure_trust(ours)
    authority.issue_cert("other.example", "127.0.0.1").configure_cert(theirs)
    async with listening(theirs) as (port, _):
        outbound = Outbound("", transport=Guard(resolve=Names(["127.0.0.1"])).transport(ours))
        answer = await outbound.exchange("POST", f"https://push.example:{port}/x", deadline_s=30)
        assert answer == NotSent("ConnectError")
        await outbound.close()


async def test_a_name_for_this_machine_is_not_connected_to() -> None:
    async with listening() as (port, count):
        for origin in (f"http://push.example:{port}", f"https://push.example:{port}"):
            # Even where the origin's sibling is allowed.
            allowed = [f"http://other.example:{port}", "http://push.example:1"]
            outbound = Outbound("", transport=Guard(allowed, resolve=Names(["127.0.0.1"])).transport())
            answer = await outbound.exchange("POST", f"{origin}/x", deadline_s=30)
            assert isinstance(answer, NotSent)
            assert answer.forbidden
            await outbound.close()
        assert count() == 0


async def test_of_several_addresses_only_public_ones_are_kept() -> None:
    guard = Guard(resolve=Names(["127.0.0.1", "8.8.8.8", "::1", "fd00::1"]))
    assert await guard.addresses("push.example", 443) == ["8.8.8.8"]
    with pytest.raises(AddressRefused):
        await guard.addresses("push.example", 22)


async def test_an_allowed_origin_may_be_anywhere() -> None:
    async with Wire().serving() as wire:
        names = Names(["127.0.0.2", "127.0.0.1"])  # nobody listens at the first
        port = origin_of(wire.url)[2]  # type: ignore[index]
        outbound = Outbound("", transport=Guard([f"http://Push.example:{port}"], resolve=names).transport())
        wire.otherwise = Answer(201, b"", {"Location": "/m/1"})
        answer = await outbound.exchange("POST", f"http://push.example:{port}/x?y=1", content=b"abc", deadline_s=30)
        assert isinstance(answer, Reply)
        assert (answer.status, answer.headers["location"]) == (201, "/m/1")
        (seen,) = wire.seen
        assert (seen.method, seen.target, seen.headers["host"], seen.body) == (
            "POST",
            "/x?y=1",
            f"push.example:{port}",
            b"abc",
        )
        await outbound.close()


async def test_a_redirect_is_not_followed() -> None:
    async with Wire().serving() as wire:
        outbound = Outbound("", transport=Guard([wire.url]).transport())
        wire.otherwise = Answer(307, b"", {"Location": f"{wire.url}/elsewhere"})
        answer = await outbound.exchange("POST", f"{wire.url}/x", deadline_s=30)
        assert isinstance(answer, Reply)
        assert (answer.status, [seen.path for seen in wire.seen]) == (307, ["/x"])
        await outbound.close()


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Wire().serving() as proxy, Wire().serving() as wire:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "")
        outbound = Outbound("", transport=Guard([wire.url]).transport())
        assert isinstance(await outbound.exchange("GET", f"{wire.url}/x", deadline_s=30), Reply)
        assert (len(wire.seen), len(proxy.seen)) == (1, 0)
        await outbound.close()


async def test_what_goes_wrong_is_told_as_everywhere() -> None:
    async def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror

    async def ask(url: str, guard: Guard) -> object:
        outbound = Outbound("", transport=guard.transport())
        answer = await outbound.exchange("GET", url, deadline_s=30)
        await outbound.close()
        return answer

    url = await closed_port()
    assert await ask(url, Guard([url])) == NotSent("ConnectError")
    assert await ask("https://nowhere.example/", Guard(resolve=unknown)) == NotSent("ConnectError")
    async with Wire().serving() as wire:
        wire.otherwise = Answer(200, b"x", missing=5)
        assert await ask(wire.url, Guard([wire.url])) == Reply(200, whole=False)
    async with listening() as (port, _):
        own = f"https://127.0.0.1:{port}"  # no TLS at the other end: never sent
        assert await ask(own, Guard([own])) == NotSent("ConnectError")


async def test_a_cut_after_sending_is_uncertain() -> None:
    async with Wire().serving() as wire:
        wire.otherwise = Raw(b"")
        outbound = Outbound("", transport=Guard([wire.url]).transport())
        answer = await outbound.exchange("POST", f"{wire.url}/", content=b"x", deadline_s=30)
        assert answer == NoReply("RemoteProtocolError")
        await outbound.close()


CHUNKS = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 20_000


@pytest.mark.parametrize(
    ("flood", "answer"),
    [
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 5000, NoReply("ReadError")),
        (CHUNKS, Reply(201, whole=False)),
        (b"HTTP/1.1 201 Created\r\n" + b"a: b\r\n" * 10_000, NoReply("ReadError")),
        (b"HTTP/1.1 201 Created\r\nContent-Length: 50000\r\n\r\n" + b"x" * 50_000, Reply(201, whole=False)),
    ],
)
async def test_an_answer_that_does_not_end_is_not_read_until_the_deadline(flood: bytes, answer: object) -> None:
    """In many small parts it would keep this process from all else."""
    async with Wire().serving() as wire, asyncio.timeout(10):
        wire.otherwise = Raw(flood, keep=True)
        outbound = Outbound("", transport=Guard([wire.url]).transport())
        assert await outbound.exchange("POST", f"{wire.url}/", content=b"x", deadline_s=30) == answer
        wire.otherwise = Answer(201, b"x" * 20_000, keep=True)
        for _ in range(3):  # of one connection each answer may be as long
            assert await outbound.exchange("POST", f"{wire.url}/", deadline_s=30) == Reply(201, b"x" * 20_000)
        await outbound.close()


@pytest.mark.usefixtures("public_loopback")
async def test_under_tls_an_answer_has_its_bound_too() -> None:
    authority = trustme.CA()
    ours, theirs = ssl.create_default_context(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.configure_trust(ours)
    authority.issue_cert("push.example").configure_cert(theirs)
    async with listening(theirs, CHUNKS) as (port, _), asyncio.timeout(10):
        outbound = Outbound("", transport=Guard(resolve=Names(["127.0.0.1"])).transport(ours))
        answer = await outbound.exchange("POST", f"https://push.example:{port}/x", deadline_s=30)
        assert answer == Reply(201, whole=False)
        await outbound.close()


async def test_a_look_up_that_hangs_ends_with_the_deadline() -> None:
    async def never(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    outbound = Outbound("", transport=Guard(resolve=never).transport())
    assert await outbound.exchange("GET", "https://slow.example/", deadline_s=0.1) == NotSent("no connection in time")
    await outbound.close()


async def test_an_address_that_is_a_number_is_not_looked_up() -> None:
    names = Names(["8.8.8.8"])
    guard = Guard(["http://127.0.0.1:80"], resolve=names)
    assert await guard.addresses("1.1.1.1", 443) == ["1.1.1.1"]
    assert await guard.addresses("2606:4700::1111", 443) == ["2606:4700::1111"]
    assert await guard.addresses("127.0.0.1", 80) == ["127.0.0.1"]
    with pytest.raises(AddressRefused):
        await guard.addresses("127.0.0.1", 443)
    assert names.asked == 0


async def test_the_systems_resolver() -> None:
    assert "127.0.0.1" in await look_ups().find("acme", "localhost", 443)
    assert await look_ups().find("acme", "2130706433", 443) == ["127.0.0.1"]
    outbound = Outbound("", transport=Guard().transport())
    too_long = f"https://{'x' * 64}.example/"  # no look-up takes such a label
    assert await outbound.exchange("GET", too_long, deadline_s=30) == NotSent("ConnectError")
    await outbound.close()


async def test_names_that_take_long_hold_up_no_other_organizations_look_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, getaddrinfo = threading.Event(), socket.getaddrinfo

    def slow(host: str, *args: Any, **kwargs: Any) -> Any:
        """The name servers of one device's domain do not answer: the system's resolver waits 5 to 30 s for them."""
        if host.endswith(".hostile.example"):
            go_on.wait(30)
            raise OSError
        return getaddrinfo(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    # Each Web Push account has its own.
    hostile, well = Guard(), Guard(["http://127.0.0.1:443", "http://localhost:443"])
    hanging = [asyncio.create_task(hostile.addresses(f"{n}.hostile.example", 443)) for n in range(20)]
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(10):  # as long as a push may take
            assert await well.addresses("127.0.0.1", 443) == ["127.0.0.1"]
            assert "127.0.0.1" in await well.addresses("localhost", 443)
    finally:
        go_on.set()
        await asyncio.gather(*hanging, return_exceptions=True)
