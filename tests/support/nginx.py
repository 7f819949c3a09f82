"""A real nginx for tests: HTTP/2 over TLS, with a GOAWAY after a number of requests, and a log of what arrived.

It is the machine's own, else Debian's package unpacked into .cache, which changes nothing else on the machine.
"""

from __future__ import annotations

import contextlib
import functools
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import trustme

from tests.support.debian import ensure
from tests.support.ports import free_port
from tests.support.postgres import end_with_parent

PLACES = ("/usr/local/sbin/nginx", "/usr/local/nginx/sbin/nginx")  # where those who build it put it
HELP = "found no nginx that runs; as root: apt-get install nginx"
START_SECONDS = 20

CONFIG = """
daemon off; master_process off; pid {home}/pid; error_log {home}/error.log;
events {{ worker_connections 256; }}
http {{
  log_format ids '$status $connection $http_apns_id';
  access_log {home}/access.log ids;
  client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
  keepalive_requests {requests};
  server {{
    listen 127.0.0.1:{port} ssl http2;
    ssl_certificate {home}/server.pem; ssl_certificate_key {home}/server.pem;
    {client}
    default_type application/json;
    location / {{ return 200; }}
    location /gone/ {{ return 410 '{{"reason":"Unregistered","timestamp":1700000000000}}'; }}
    location /who/ {{ return 200 '{{"client":"$ssl_client_s_dn"}}'; }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One line of the access log: the status given, the number of the connection, and the header `apns-id`."""

    status: int
    connection: int
    id: str


@dataclass(frozen=True, slots=True)
class Nginx:
    """A running server at `url`, whose certificate `ca_pem` vouches for."""

    url: str
    ca_pem: bytes
    log: Path

    def arrivals(self) -> list[Arrival]:
        """All requests so far."""
        lines = [line.split(" ", 2) for line in self.log.read_text().splitlines()]
        return [Arrival(int(status), int(connection), name) for status, connection, name in lines]


@contextlib.contextmanager
def running(home: Path, ca: trustme.CA, *, requests: int = 1000, ask_client: bool = False) -> Iterator[Nginx]:
    """Start one in an empty directory. `requests`: a connection's share, after which a GOAWAY comes.

    `ask_client`: a client certificate of the same authority is asked for, and requests without one get a 400.
    """
    ca.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(home / "server.pem"))
    ca.cert_pem.write_to_path(str(home / "ca.pem"))
    client = f"ssl_verify_client on; ssl_client_certificate {home}/ca.pem;" if ask_client else ""
    process, port = _start(home, CONFIG, requests=str(requests), client=client)
    try:
        yield Nginx(f"https://127.0.0.1:{port}", ca.cert_pem.bytes(), home / "access.log")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _start(home: Path, config: str, **values: str) -> tuple[subprocess.Popen[bytes], int]:
    """A few tries, since another process may take the port first."""
    program = find()
    for _ in range(3):
        port = free_port()
        (home / "nginx.conf").write_text(config.format(home=home, port=port, **values))
        command = [program, "-p", str(home), "-e", f"{home}/error.log", "-c", f"{home}/nginx.conf"]
        with (home / "output").open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=functools.partial(end_with_parent, signal.SIGTERM),
            )
        if _is_ready(process, home / "pid"):
            return process, port
        process.kill()
        process.wait()
    raise RuntimeError(f"nginx did not start:\n{(home / 'error.log').read_text()}{(home / 'output').read_text()}")


def _is_ready(process: subprocess.Popen[bytes], pid: Path) -> bool:
    """Wait for its pid, which it writes once it listens. Connecting would tell nothing: another may have the port."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            if pid.read_text().strip() == str(process.pid):
                return True
        time.sleep(0.02)
    return False


@functools.cache
def find() -> str:
    """The path of an nginx that runs here. Raises `RuntimeError` that says what to install."""
    for place in PLACES:
        if _runs(place):
            return place
    found = ensure("nginx", "nginx")
    if not _runs(found):
        raise RuntimeError(HELP)
    return found


def _runs(program: str) -> bool:
    try:
        shown = subprocess.run([program, "-V"], capture_output=True, text=True, check=True).stderr
    except (OSError, subprocess.CalledProcessError):
        return False
    return "http_v2_module" in shown
