"""The HTTP/2 server when it behaves: requests, windows, limits, certificates, counts."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from h2.settings import SettingCodes

from heliograph_lab.http2 import Answer, Authority, Outcome, Request, Server, Silence
from heliograph_lab.http2.tls import trust
from tests.lab.http2.client import Client, connected
from tests.lab.serving import until


async def test_answers_each_stream(client: Client, server: Server) -> None:
    one, two = client.send("/a?b=%20c", b"one"), client.send("/d", None)
    assert [await client.answer(one), await client.answer(two)] == [200, 200]
    assert client.alpn == "h2"
    assert (client.body[one], client.headers[one]["x-path"]) == (b"one", "/a?b=%20c")
    assert two not in client.body
    assert (server.counts.seen, server.counts.processed, server.counts.answered) == (2, 2, 2)


async def test_handlers_that_wait_overtake_each_other(client: Client, server: Server) -> None:
    go = asyncio.Event()

    async def wait() -> Outcome:
        await go.wait()
        return Answer(202)

    server.handler = lambda request: wait() if request.path == "/slow" else Answer(200)
    slow, fast = client.send("/slow"), client.send("/fast")
    assert await client.answer(fast) == 200
    assert slow not in client.done
    go.set()
    assert await client.answer(slow) == 202


async def test_small_windows_in_both_directions(client: Client, server: Server) -> None:
    server.change(initial_window_size=100)
    await client.until(lambda: client.h2.remote_settings.initial_window_size == 100)
    client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 70})
    client.flush()
    body = bytes(range(256)) * 12
    stream = await client.send_slowly(body)
    assert await client.answer(stream) == 200
    assert client.body[stream] == body


async def test_a_window_that_becomes_negative(client: Client, server: Server) -> None:
    server.handler = lambda _request: Answer(200, body=b"x" * 60_000)
    client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 50_000})
    client.hungry = False
    stream = client.send()
    await client.until(lambda: len(client.body.get(stream, b"")) == 50_000)
    client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 100})
    client.h2.increment_flow_control_window(100_000)
    client.flush()
    await client.until(lambda: client.h2.local_settings.initial_window_size == 100)
    assert len(client.body[stream]) == 50_000
    client.h2.increment_flow_control_window(60_000, stream)
    client.flush()
    assert await client.answer(stream) == 200
    assert len(client.body[stream]) == 60_000


async def test_windows_announced_at_the_start_bind_once_the_client_knows(authority: Authority, server: Server) -> None:
    server.limits.initial_window_size = 100
    async with connected(server.port, authority.ca_path) as client:
        early = client.send(body=b"x" * 3000)  # before it has read the server's SETTINGS
        assert await client.answer(early) == 200
        later = await client.send_slowly(b"y" * 3000)
        assert await client.answer(later) == 200
        assert client.h2.remote_settings.initial_window_size == 100


async def test_streams_over_the_limit_are_refused(client: Client, server: Server) -> None:
    server.handler = lambda _request: Silence()
    server.change(max_concurrent_streams=2)
    sent = [client.send() for _ in range(5)]
    await client.until(lambda: len(client.resets) == 3)
    assert client.resets == dict.fromkeys(sent[2:], 7)
    assert (server.counts.processed, server.counts.refused) == (2, 3)
    assert client.h2.remote_settings.max_concurrent_streams == 2
    server.change(max_concurrent_streams=3)
    await client.until(lambda: client.h2.remote_settings.max_concurrent_streams == 3)
    client.send()
    await until(lambda: server.counts.processed == 3)


async def test_a_request_that_the_client_takes_back(client: Client, server: Server) -> None:
    release = asyncio.Event()

    async def wait(_request: Request) -> Outcome:
        await release.wait()
        return Answer(200)

    server.handler = wait
    waiting = client.send()
    await until(lambda: server.counts.processed == 1)
    client.h2.reset_stream(waiting, 8)
    at_once = client.send()
    client.h2.reset_stream(at_once, 8)
    client.flush()
    await until(lambda: server.counts.cancelled == 2)
    release.set()
    server.handler = lambda _request: Answer(200)
    assert await client.answer(client.send()) == 200
    assert server.counts.answered == 1


async def test_request_and_cancel_in_one_segment(client: Client, server: Server) -> None:
    stream = client.h2.get_next_available_stream_id()
    pseudo = [(":method", "POST"), (":scheme", "https"), (":authority", "lab"), (":path", "/")]
    client.h2.send_headers(stream, pseudo, end_stream=True)
    client.h2.reset_stream(stream, 8)
    client.flush()
    assert await client.answer(client.send()) == 200
    assert (server.counts.processed, server.counts.answered, server.counts.cancelled) == (2, 1, 1)


async def test_a_handler_that_fails_costs_its_stream_only(client: Client, server: Server) -> None:
    async def late(_request: Request) -> Outcome:
        await asyncio.sleep(0)
        raise RuntimeError("later")

    def handler(request: Request) -> Outcome:
        raise RuntimeError("at once")

    server.handler = handler
    one = client.send()
    await client.until(lambda: one in client.resets)
    server.handler = late
    two = client.send()
    await client.until(lambda: two in client.resets)
    assert client.resets == {one: 2, two: 2}
    server.handler = lambda _request: Answer(204)
    assert await client.answer(client.send()) == 204


async def test_counts_by_id(client: Client, server: Server) -> None:
    for request_id in ("a", "b", "a", "a"):
        assert await client.answer(client.send(headers={"x-id": request_id})) == 200
    server.handler = lambda _request: Answer(400)
    assert await client.answer(client.send(headers={"x-id": "c"})) == 400
    server.handler = lambda _request: Answer(200)
    assert await client.answer(client.send(headers={"x-id": "c"})) == 200
    assert server.counts.duplicates() == {"a": 3}
    assert server.counts.seen_by_id == {"a": 3, "b": 1, "c": 2}
    assert server.counts.processed_by_id == {"a": 3, "b": 1, "c": 1}
    server.counts.clear()
    assert (server.counts.processed, server.counts.open, server.counts.duplicates()) == (0, 1, {})


async def test_http1_is_refused(authority: Authority, server: Server) -> None:
    context = ssl.create_default_context(cafile=authority.ca_path)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    writer.write(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n")
    async with asyncio.timeout(30):
        answer = await reader.read()
    writer.close()
    assert b"HTTP/1.1" not in answer
    assert server.counts.seen == 0


async def test_client_certificates(authority: Authority, server: Server, tmp_path: Path) -> None:
    seen: list[bytes | None] = []

    def handler(request: Request) -> Outcome:
        seen.append(request.peer.certificate)
        return Answer(200)

    server.handler = handler
    path = tmp_path / "client.pem"
    path.write_bytes(authority.client_certificate(uid="com.apple.mgmt.External.1"))
    for certificate in (None, path):
        async with connected(server.port, authority.ca_path, certificate) as client:
            assert await client.answer(client.send()) == 200
    assert seen[0] is None
    assert seen[1] is not None
    subject = x509.load_der_x509_certificate(seen[1]).subject
    assert next(field.value for field in subject) == "com.apple.mgmt.External.1"


async def test_a_certificate_of_another_authority(server: Server, authority: Authority, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.pem"
    (tmp_path / "other").mkdir()
    pem = Authority(tmp_path / "other").client_certificate(uid="com.example")
    foreign.write_bytes(pem)
    async with connected(server.port, authority.ca_path, foreign) as client:
        await client.until(lambda: client.closed != "no")
    trust(server.tls, pem[pem.index(b"-----BEGIN CERTIFICATE") :].decode())
    async with connected(server.port, authority.ca_path, foreign) as client:
        assert await client.answer(client.send()) == 200
    with pytest.raises(ssl.SSLError):
        trust(server.tls, "no PEM")


def test_the_authority_is_kept(authority: Authority, tmp_path: Path) -> None:
    before = authority.ca_path.read_bytes()
    assert Authority(tmp_path).ca_path.read_bytes() == before
    assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca.key", "ca.pem"]
