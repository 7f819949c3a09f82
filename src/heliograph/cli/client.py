"""The HTTP API as the command line uses it: bounded, patient with a busy server, plain about what went wrong."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2

from heliograph.cli.exits import ExitCode, Failure, Needs, of_answer, usage
from heliograph.cli.target import Http

_CONNECT_S = 5.0
_ANSWER_S = 20.0
_PERMISSION_MISSING = 4001
_ASKS_FOR_MORE = (_PERMISSION_MISSING, 5050)
_LONGEST_WAIT_S = 30  # the server's bound on ?wait=
_PATIENCE_S = 30.0
_RETRIED = (429, 503)
_LOOPBACK = ("127.", "localhost", "[::1]", "::1")
Json = dict[str, Any]


class Api:
    """One server as one key sees it."""

    def __init__(self, http: Http, sleep: Callable[[float], None] = time.sleep) -> None:
        self.url = http.url
        self._organization = http.organization
        self._sleep = sleep
        local = (urlsplit(http.url).hostname or "").startswith(_LOOPBACK)
        try:
            self._client = httpx2.Client(
                headers={"Authorization": f"Bearer {http.api_key}", "User-Agent": "heliograph-cli"},
                timeout=httpx2.Timeout(_ANSWER_S, connect=_CONNECT_S),
                trust_env=not local,
            )
        except (OSError, ValueError) as error:  # certificates or proxies that the environment names
            raise usage(f"the environment's certificates or proxies cannot be used: {error}") from None

    def close(self) -> None:
        """Let go of connections."""
        self._client.close()

    def get(self, path: str, what: str = "", **query: Any) -> Json:
        """`data` of a GET; `what` = what is looked for, for people."""
        return self._data("GET", path, what, query=query, again=True)

    def post(self, path: str, body: Json | None = None, what: str = "", *, again: bool = False) -> Json:
        """`data` of a POST; `again`: doing it twice is doing it once, so a busy server is asked again."""
        return self._data("POST", path, what, body=body, again=again)

    def organization(self) -> str:
        """The organization to work in: the one that was named, else the one that the key belongs to."""
        if self._organization is None:
            self._organization = self._own_organization()
        return self._organization

    def _own_organization(self) -> str:
        try:
            items = self.get("/v1/organizations")["items"]
        except Failure as failure:
            if failure.code != _PERMISSION_MISSING:
                raise
            raise usage("this key may not ask for its organization: give --org ID-or-SLUG, or HELIOGRAPH_ORG") from None
        return str(items[0]["id"])

    def in_organization(self, *segments: str) -> str:
        """A path below the organization; each segment is quoted."""
        return "/".join(("/v1/organizations", *(quote(s, safe="") for s in (self.organization(), *segments))))

    def mdm(self, *segments: str) -> str:
        """A path below the organization's `mdm`."""
        return self.in_organization("mdm", *segments)

    def waited(self, path: str, seconds: float, is_final: Callable[[Json], bool], what: str = "") -> Json:
        """Read a record until it is final or the time is up; answers the last state read."""
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            record = self.get(path, what, wait=max(0, min(_LONGEST_WAIT_S, round(left))))
            if is_final(record) or deadline - time.monotonic() <= 0:
                return record
            if left < 0.5:  # less than what ?wait= can say
                self._sleep(max(0.0, deadline - time.monotonic()))

    def _data(
        self, method: str, path: str, what: str, *, query: Json | None = None, body: Json | None = None, again: bool
    ) -> Json:
        answer = self._answered(method, path, query, body, again=again)
        envelope = _envelope(answer)
        if envelope is None:
            raise Failure(
                ExitCode.UNREACHABLE if answer.status_code >= 500 else ExitCode.REFUSED,
                f"{self.url} does not answer like Heliograph (HTTP {answer.status_code}): is the URL right?",
            )
        if envelope.get("status") is not True:
            error = envelope.get("error")
            error = error if isinstance(error, dict) else {}
            needs = self._needs(method, path) if error.get("code") in _ASKS_FOR_MORE else Needs()
            raise of_answer(answer.status_code, error, what, needs)
        data = envelope.get("data")
        return data if isinstance(data, dict) else {"items": data}

    def _needs(self, method: str, path: str) -> Needs:
        """What the server's own description says that a call needs."""
        try:
            paths = self._client.get(f"{self.url}/openapi.json").json()["paths"]
            template = min((t for t in paths if _fits(t, path)), key=lambda t: t.count("{"))
            needed = paths[template][method.lower()]
            return Needs(needed["x-required-permission"], needed.get("x-required-feature", "…"))
        except (httpx2.HTTPError, ValueError, LookupError, TypeError):
            return Needs()

    def _answered(
        self, method: str, path: str, query: Json | None, body: Json | None, *, again: bool
    ) -> httpx2.Response:
        patience = _PATIENCE_S
        wait_s = float((query or {}).get("wait", 0))
        timeout = httpx2.Timeout(_ANSWER_S + wait_s, connect=_CONNECT_S)
        while True:
            with self._explained(method):
                answer = self._client.request(method, self.url + path, params=query, json=body, timeout=timeout)
            pause = _retry_after(answer)
            if not again or answer.status_code not in _RETRIED or pause > patience:
                return answer
            patience -= pause
            self._sleep(pause)

    @contextmanager
    def _explained(self, method: str) -> Iterator[None]:
        try:
            yield
        except httpx2.ConnectError as error:
            raise Failure(
                ExitCode.UNREACHABLE, f"cannot reach {self.url} ({error}): is the server up, and the URL right?"
            ) from None
        except httpx2.HTTPError as error:
            doubt = "" if method == "GET" else "; whether it was carried out is unknown, so look before trying again"
            reason = str(error) or type(error).__name__
            raise Failure(ExitCode.UNREACHABLE, f"{self.url} did not answer ({reason}){doubt}") from None
        except (httpx2.InvalidURL, UnicodeError):
            raise usage("--url (HELIOGRAPH_URL) is not an address") from None


def _fits(template: str, path: str) -> bool:
    """Whether a path is one of those that a template of the API stands for."""
    parts, given = template.split("/"), path.split("/")
    return len(parts) == len(given) and all(p.startswith("{") or p == g for p, g in zip(parts, given, strict=True))


def _envelope(answer: httpx2.Response) -> Json | None:
    try:
        envelope = answer.json()
    except ValueError:
        return None
    return envelope if isinstance(envelope, dict) and "status" in envelope else None


def _retry_after(answer: httpx2.Response) -> float:
    text = answer.headers.get("retry-after", "")
    return max(0.1, float(text)) if text.isascii() and text.isdigit() else 1.0


@contextmanager
def open_api(http: Http) -> Iterator[Api]:
    """A client, closed at the end."""
    api = Api(http)
    try:
        yield api
    finally:
        api.close()
