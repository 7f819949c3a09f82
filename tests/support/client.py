"""Talks to a running server as its users do: the API with one key, an agent played by hand, and the lab's controls."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2

Json = dict[str, Any]
Witness = Callable[[httpx2.Response], None]

# What the server may be asked to wait for, and the harness a little longer.
WAIT_S = 30
_TIMEOUT_S = WAIT_S + 30.0


def http(base_url: str, witness: Witness | None = None) -> httpx2.Client:
    """A client that asks nobody else on the way. Every answer is shown to the witness."""

    def seen(response: httpx2.Response) -> None:
        response.read()
        if witness is not None:
            witness(response)

    return httpx2.Client(
        base_url=base_url, trust_env=False, timeout=_TIMEOUT_S, event_hooks={"response": [seen], "request": []}
    )


@dataclass(frozen=True)
class Device:
    """One device of the demo, as the ready file tells it."""

    name: str
    platform: str
    id: str
    all_platform_id: str
    serial_number: str
    provider: str
    online: bool
    apps: tuple[str, ...] = ()

    @property
    def commands(self) -> str:
        """The path of its commands, below the organization."""
        parent = {"android": "android", "aosp": "aosp"}[self.platform]
        return f"mdm/{parent}/enterprise/devices/{self.id}/commands"


class Refused(AssertionError):
    """An answer that was expected to be a success is none."""


def data_of(response: httpx2.Response) -> Any:
    """`data` of a success."""
    if response.status_code != 200:
        raise Refused(f"{response.request.method} {response.request.url.path}: {response.status_code} {response.text}")
    return response.json()["data"]


def error_of(response: httpx2.Response) -> tuple[int, int]:
    """HTTP status and contract code of a refusal."""
    body = response.json()
    assert body["status"] is False, body
    return response.status_code, body["error"]["code"]


def fields_of(response: httpx2.Response) -> list[str]:
    """The paths that a 5209 names."""
    assert error_of(response) == (400, 5209), response.text
    return [found["path"] for found in response.json()["error"]["data"]["fields"]]


@dataclass(frozen=True)
class Api:
    """The API with one key, inside one organization. Paths are relative to it; absolute ones start with a slash."""

    client: httpx2.Client
    organization: str
    key: str | None
    slug: str = ""
    key_id: str = ""

    def call(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """Any request; `headers` win over ours."""
        url = path if path.startswith("/") else f"/v1/organizations/{self.organization}/{path}"
        headers = {} if self.key is None else {"Authorization": f"Bearer {self.key}"}
        return self.client.request(method, url, headers=headers | dict(options.pop("headers", {})), **options)

    def get(self, path: str, **query: Any) -> httpx2.Response:
        """A read with query parameters."""
        return self.call("GET", path, params=query)

    def post(self, path: str, body: Any = None) -> httpx2.Response:
        """JSON from Python, or bytes as they are."""
        if isinstance(body, bytes):
            return self.call("POST", path, content=body, headers={"Content-Type": "application/json"})
        return self.call("POST", path, json=body)

    def with_key(self, key: str | None) -> Api:
        """The same organization with another key."""
        return Api(self.client, self.organization, key, self.slug)

    def inside(self, organization: str) -> Api:
        """The same key in another organization's path."""
        return Api(self.client, organization, self.key, self.slug, self.key_id)

    # ------------------------------------------------------------ commands

    def create(self, device: Device, body: Mapping[str, Any] | str) -> Json:
        """A new command; a bare type stands for a body that says no more."""
        name = "type" if device.platform == "android" else "command"
        record: Json = data_of(self.post(device.commands, {name: body} if isinstance(body, str) else dict(body)))
        return record

    def command(self, device: Device, command_id: str, wait: int = 0) -> Json:
        """A command as it is now, or once it is over."""
        record: Json = data_of(self.get(f"{device.commands}/{command_id}", **({"wait": wait} if wait else {})))
        return record

    def over(self, device: Device, command_id: str) -> Json:
        """A command that is waited for until it is over."""
        record = self.command(device, command_id, WAIT_S)
        assert record["status"] != "PENDING", record
        return record

    def cancel(self, device: Device, command_id: str) -> httpx2.Response:
        """The answer to a request to cancel."""
        return self.post(f"{device.commands}/{command_id}/cancel")

    def push_status(self, device: Device, command_id: str, wait: int = 0) -> httpx2.Response:
        """What became of the push of an AOSP command."""
        return self.get(f"{device.commands}/{command_id}/push-status", **({"wait": wait} if wait else {}))

    def until(self, device: Device, command_id: str, met: Callable[[Json], bool]) -> Json:
        """A command once it is as wished; for states that are not final, which `wait` does not await."""
        found: Json = until(lambda: self.command(device, command_id), met)
        return found

    # ------------------------------------------------------------ pushes

    def send(self, os: str, identifier: str, app: str = "mdmAgent", **more: Any) -> httpx2.Response:
        """Send a push; `notification` and `type` have defaults."""
        body = {"os": os, "identifier": identifier, "app": app, "type": "notification"}
        return self.post("mdm/push-notifications/send", {**body, "notification": {"body": "hello"}, **more})

    def push(self, push_id: str, wait: int = 0) -> Json:
        """A push as it is now, or once it is over."""
        record: Json = data_of(self.get(f"mdm/push-notifications/{push_id}", **({"wait": wait} if wait else {})))
        return record

    # ------------------------------------------------------------ set-up

    def setup(self, verb: str, **body: Any) -> Json:
        """A set-up verb."""
        answer: Json = data_of(self.post(f"setup/{verb}", body))
        return answer

    def new_device(self, platform: str, name: str = "", **more: Any) -> HandDevice:
        """A device whose agent the test plays itself."""
        made = self.setup("device.add", platform=platform, name=name or f"by hand {platform}", **more)
        device = Device(
            made["name"],
            platform,
            made["id"],
            made["allPlatformId"],
            made["serialNumber"] or "",
            "builtin",
            online=True,
        )
        return HandDevice(self.client, device, made["agentSecret"])


def until(read: Callable[[], Any], met: Callable[[Any], bool], seconds: float = WAIT_S) -> Any:
    """Read until it is as wished. For what the server cannot be asked to wait for."""
    import time

    deadline = time.monotonic() + seconds
    while not met(found := read()):
        assert time.monotonic() < deadline, f"still {found!r}"
        time.sleep(0.02)
    return found


@dataclass(frozen=True)
class HandDevice:
    """A device whose agent says only what the test makes it say."""

    client: httpx2.Client
    device: Device
    secret: str

    def post(self, path: str, body: Any, **query: Any) -> httpx2.Response:
        """One message of the agent line."""
        return self.client.post(path, json=body, params=query, headers={"Authorization": f"Bearer {self.secret}"})

    def register(self, app: str = "mdmAgent", provider: str = "builtin", token: str = "") -> None:
        """This app is installed and can be woken."""
        self.register_all([{"provider": provider, "token": token}], app)

    def register_all(self, targets: list[Json], app: str = "mdmAgent") -> None:
        """This app is installed and can be woken in several ways."""
        answer = self.post("/agent/v1/register", {"app": app, "agentVersion": "0", "targets": targets})
        assert answer.status_code == 200, answer.text

    def check_in(self, app: str = "mdmAgent", **message: Any) -> Json:
        """One check-in; members as the protocol names them."""
        answer = self.post("/agent/v1/check-in", {"seq": 1, **message}, app=app)
        assert answer.status_code == 200, answer.text
        orders: Json = answer.json()
        return orders

    def claim(self) -> list[Json]:
        """Ask for one command."""
        commands: list[Json] = self.check_in(claim=1).get("commands", [])
        return commands

    def report(self, command_id: str, rung: str, **more: Any) -> None:
        """A rung that a claimed command has reached."""
        at = "2026-02-10T12:00:00Z"
        self.check_in(reports=[{"commandId": command_id, "rung": rung, "at": at, **more}])


@dataclass
class Lab:
    """The lab's control API. What a test changes about devices and faults is put back by `restore`."""

    client: httpx2.Client
    before: dict[str, Json] = field(default_factory=dict)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.client.request(method, path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def put(self, device: Device, **state: Any) -> None:
        """Change `online`, `latencyMs`, `outcome` of a device."""
        if device.id not in self.before:
            shown = self._ask("GET", f"/devices/{device.id}")
            self.before[device.id] = {name: shown[name] for name in ("online", "latencyMs", "outcome")}
        self._ask("PUT", f"/devices/{device.id}", state)

    def journal(self, device: Device, event: str | None = None) -> list[Json]:
        """What the device itself says happened."""
        items: list[Json] = self._ask("GET", f"/devices/{device.id}/journal")["items"]
        return [item for item in items if event in (None, item["event"])]

    def requests(self, service: str) -> list[Json]:
        """What an emulator has received."""
        items: list[Json] = self._ask("GET", f"/requests?service={service}")["items"]
        return items

    @contextlib.contextmanager
    def faults(self, *rules: Json) -> Iterator[None]:
        """Rules that hold within the block."""
        self._ask("PUT", "/faults", list(rules))
        try:
            yield
        finally:
            self._ask("DELETE", "/faults")

    def advance(self, seconds: float) -> None:
        """Move the emulators' time; it cannot be turned back."""
        self._ask("PUT", "/clock", {"advanceSeconds": seconds})

    def restore(self) -> None:
        """Devices as they were, no faults."""
        self._ask("DELETE", "/faults")
        for device_id, state in self.before.items():
            # The outcome as a whole: absent members stay as they are.
            self._ask("PUT", f"/devices/{device_id}", state)
        self.before.clear()


def fault(service: str, path: str | None = None, times: int | None = None, **action: Any) -> Json:
    """A rule for `Lab.faults`; `retryAfter`, `delayMs`, `status` or `cut` as action."""
    rule: Json = {"service": service, "action": action}
    if path is not None:
        rule["match"] = {"path": path}
    return rule if times is None else rule | {"times": times}
