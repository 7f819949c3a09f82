"""Against a server that nobody here wrote: nginx, which says GOAWAY after each 1,000 requests."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import msgspec
import pytest
import trustme

from heliograph.ports.transport import Answered, Endpoint
from heliograph.providers.transport import Connections
from heliograph.system import SystemClock
from tests.providers.transport.conftest import seen
from tests.support import nginx

PUSHES = 5000


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


async def test_5000_pushes_over_a_goaway_each_1000_arrive_once_and_none_is_ambiguous(
    tmp_path: Path, ca: trustme.CA
) -> None:
    with nginx.running(tmp_path, ca, requests=1000) as server:
        connections = Connections(SystemClock())
        transport = connections.at(Endpoint(server.url, server.ca_pem))
        names = [f"push-{number}" for number in range(PUSHES)]
        outcomes = await asyncio.gather(*(transport.post("/3/device/x", {"apns-id": n}, b"{}", 60) for n in names))
        await connections.close()
    arrivals = server.arrivals()
    per_connection = Counter(arrival.connection for arrival in arrivals)
    print(f"\n{seen(outcomes)}, arrived {len(arrivals)}, connections {len(per_connection)}")
    assert seen(outcomes) == {"200": PUSHES}
    assert Counter(arrival.id for arrival in arrivals) == dict.fromkeys(names, 1)
    # As many as the GOAWAYs ask for, and no more.
    assert len(per_connection) >= PUSHES // 1000
    assert max(per_connection.values()) <= 1000


async def test_a_410_comes_with_its_reason(tmp_path: Path, ca: trustme.CA) -> None:
    with nginx.running(tmp_path, ca) as server:
        connections = Connections(SystemClock())
        answer = await connections.at(Endpoint(server.url, server.ca_pem)).post("/gone/x", {}, b"{}", 60)
        await connections.close()
    assert isinstance(answer, Answered)
    assert (answer.status, answer.headers["content-type"], answer.whole) == (410, "application/json", True)
    assert msgspec.json.decode(answer.body) == {"reason": "Unregistered", "timestamp": 1700000000000}


async def test_connections_show_the_certificate_of_their_endpoint(tmp_path: Path, ca: trustme.CA) -> None:
    certificates = [ca.issue_cert(f"{name}.example", common_name=name) for name in ("ann", "bob")]
    with nginx.running(tmp_path, ca, ask_client=True) as server:
        connections = Connections(SystemClock())
        pems = [None, *(certificate.private_key_and_cert_chain_pem.bytes() for certificate in certificates)]
        ways = [connections.at(Endpoint(server.url, server.ca_pem, pem)) for pem in pems]
        nobody, ann, bob = await asyncio.gather(*(way.post("/who/x", {}, b"", 60) for way in ways))
        await connections.close()
    assert isinstance(nobody, Answered)
    assert nobody.status == 400
    for answer, name in ((ann, b"CN=ann"), (bob, b"CN=bob")):
        assert isinstance(answer, Answered)
        assert answer.status == 200
        assert name in answer.body
