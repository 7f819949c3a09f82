"""The HTTP client: patient with a busy server, plain about everything else."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from heliograph.cli.client import Api
from heliograph.cli.exits import ExitCode, Failure
from heliograph.cli.target import Http

KEY = "hlg_canary"
Answer = tuple[int, Any, dict[str, str]]
GOOD: Answer = (200, {"status": True, "data": {"id": "x"}}, {})
BUSY = (429, {"status": False, "error": {"code": 4029, "message": "Too many requests"}}, {"Retry-After": "2"})
BROKEN: Answer = (0, b"", {})
AWAY = (503, {"status": False, "error": {"code": 1003, "message": "Away"}}, {"Retry-After": "1"})


@dataclass
class Script:
    """A server that answers what it is told to, in order; the last answer for ever."""

    answers: list[Answer]
    seen: list[tuple[str, str]] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    @contextmanager
    def api(self, organization: str | None = "acme") -> Iterator[Api]:
        script = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                script.seen.append((self.command, self.path))
                status, body, headers = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
                if not status:
                    return  # and close the connection
                raw = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(raw))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST = _answer  # noqa: N815 - the base class calls them so

            def log_message(self, *_: Any) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            api = Api(Http(f"http://127.0.0.1:{server.server_port}", KEY, organization), self.slept.append)
            try:
                yield api
            finally:
                api.close()
                server.shutdown()
                thread.join()


def refused(call: Callable[[], Any]) -> Failure:
    with pytest.raises(Failure) as caught:
        call()
    assert KEY not in caught.value.message
    return caught.value


def test_a_busy_server_is_asked_again_when_it_says() -> None:
    script = Script([BUSY, AWAY, GOOD])
    with script.api() as api:
        assert api.get("/a") == {"id": "x"}
    assert (script.slept, len(script.seen)) == ([2.0, 1.0], 3)


def test_patience_has_an_end() -> None:
    script = Script([(429, BUSY[1], {"Retry-After": "25"})])
    with script.api() as api:
        assert refused(lambda: api.get("/a")).exit_code is ExitCode.UNREACHABLE
    assert script.slept == [25.0]


@pytest.mark.parametrize("answer", [BUSY, AWAY])
def test_what_must_not_happen_twice_is_not_asked_twice(answer: Answer) -> None:
    script = Script([answer])
    with script.api() as api:
        assert refused(lambda: api.post("/a", {})).exit_code is ExitCode.UNREACHABLE
    assert (len(script.seen), script.slept) == (1, [])


def test_what_may_happen_twice_is_asked_again() -> None:
    script = Script([BUSY, GOOD])
    with script.api() as api:
        assert api.post("/a", {}, again=True) == {"id": "x"}


@pytest.mark.parametrize("pause", ["", "soon", "-1", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_an_odd_retry_after_is_a_second(pause: str) -> None:
    script = Script([(429, BUSY[1], {"Retry-After": pause}), GOOD])
    with script.api() as api:
        api.get("/a")
    assert script.slept == [1.0]


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (404, 3001, 5),
        (404, 1002, 5),
        (405, 1002, 5),
        (401, 4001, 4),
        (401, 4002, 4),
        (401, 4004, 4),
        (400, 5050, 4),
        (400, 5052, 6),
        (400, 5173, 1),
        (400, 5209, 2),
        (413, 5213, 2),
        (500, 1000, 3),
        (418, 12, 1),
    ],
)
def test_every_refusal_has_its_exit_code(status: int, code: int, exit_code: int) -> None:
    error = {"code": code, "message": "No", "data": {"fields": [{"path": "a.b", "reason": "is wrong"}]}}
    with Script([(status, {"status": False, "error": error}, {})]).api() as api:
        failure = refused(lambda: api.get("/a", "this device"))
    assert (failure.exit_code, failure.code) == (exit_code, code)
    assert "a.b: is wrong" in failure.message


def test_a_refusal_that_explains_itself_is_shown_as_it_is() -> None:
    error = {"code": 4001, "message": "a key can hand on only what it holds"}
    with Script([(401, {"status": False, "error": error}, {})]).api() as api:
        assert refused(lambda: api.get("/a")).message == error["message"]


@pytest.mark.parametrize(
    ("answer", "exit_code"),
    [
        ((502, b"<html>Bad gateway</html>", {}), 3),
        ((200, b"<html>Hello</html>", {}), 1),
        ((200, [1], {}), 1),
        ((302, b"", {"Location": "http://127.0.0.1:1/"}), 1),
    ],
)
def test_what_is_not_heliograph_is_told_from_it(answer: Answer, exit_code: int) -> None:
    script = Script([answer])
    with script.api() as api:
        failure = refused(lambda: api.get("/a"))
    assert (failure.exit_code, len(script.seen)) == (exit_code, 1)
    assert "is the URL right?" in failure.message


def test_names_cannot_leave_their_place_in_the_path() -> None:
    script = Script([GOOD])
    with script.api("../x?y") as api:
        api.get(api.mdm("devices", "a/../b#c"))
    assert script.seen == [("GET", "/v1/organizations/..%2Fx%3Fy/mdm/devices/a%2F..%2Fb%23c")]


def test_the_key_tells_the_organization() -> None:
    script = Script([(200, {"status": True, "data": {"items": [{"id": "o1"}]}}, {})])
    with script.api(None) as api:
        assert (api.organization(), api.organization()) == ("o1", "o1")
    assert script.seen == [("GET", "/v1/organizations")]


def test_a_key_that_may_not_ask_needs_to_be_told_the_organization() -> None:
    error = {"code": 4001, "message": "Permission missing"}
    with Script([(401, {"status": False, "error": error}, {})]).api(None) as api:
        assert "--org" in refused(api.organization).message


def test_waiting_ends_with_what_is_final() -> None:
    script = Script([GOOD, (200, {"status": True, "data": {"id": "x", "over": True}}, {})])
    with script.api() as api:
        assert api.waited("/a", 45, lambda record: "over" in record)["over"]
    assert script.seen == [("GET", "/a?wait=30")] * 2


def test_waiting_ends_when_the_time_is_up() -> None:
    with Script([GOOD]).api() as api:
        assert api.waited("/a", 0, lambda _: False) == {"id": "x"}


def test_nobody_there() -> None:
    api = Api(Http("http://127.0.0.1:1", KEY, "acme"))
    try:
        failure = refused(lambda: api.get("/a"))
    finally:
        api.close()
    assert failure.exit_code is ExitCode.UNREACHABLE
    assert "is the server up" in failure.message


def test_a_connection_that_breaks_leaves_a_doubt() -> None:
    with Script([BROKEN]).api() as api:
        assert "unknown" in refused(lambda: api.post("/a", {})).message
