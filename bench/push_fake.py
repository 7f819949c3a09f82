"""APNs and FCM of the lab in a process of their own, and the accounts that lead there."""

from __future__ import annotations

import contextlib
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from bench.processes import start, stop, wait_for_file
from tests.providers.credentials import p8, service_account

PLATFORMS = {"apns": "ios", "fcm": "aosp"}
"""Devices of which platform a provider is measured with."""
START_S = 30
_IDS = {"keyId": "ABC123DEFG", "teamId": "TEAM123456"}


def address_of(kind: str, number: int) -> str:
    """A well-formed token of a device."""
    return f"{number:064x}" if kind == "apns" else f"{number:022x}:APA91b{number:0134x}"


@dataclass(frozen=True, slots=True)
class Fake:
    """The running lab, which takes pushes to any well-formed token and drops them there."""

    urls: dict[str, str]
    pid: int

    def settings(self, kind: str) -> dict[str, Any]:
        """The settings of an account at one of its services."""
        way = {"baseUrl": self.urls[f"{kind}Url"], "ca": Path(self.urls["caPath"]).read_text()}
        if kind == "apns":
            return {**_IDS, "key": p8(), "topic": "com.example.agent", **way}
        token_url = f"{self.urls['amapiUrl']}/token"
        return {"serviceAccount": service_account(token_uri=token_url), "tokenUrl": token_url, **way}

    def taken(self, kind: str) -> int:
        """How many pushes a service has accepted."""
        return int(self._ask("GET", f"/{kind}")["dropped"])

    def prepare(self) -> None:
        """Take any token, and our key."""
        # h2load opens all its streams at once; our transport lets one request go ahead all the same.
        settings = {"apns": {"unknownTokens": True, "streamsBeforeToken": 1000}, "fcm": {"unknownTokens": True}}
        self._ask("PUT", "/settings", settings)
        self._ask("PUT", "/apns/keys", [{"keyId": _IDS["keyId"], "teamId": _IDS["teamId"], "publicKey": p8()}])

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.urls["controlUrl"] + path, data, headers, method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return msgspec.json.decode(answer.read())


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Fake]:
    """Run the lab."""
    log, ready = folder / "lab.log", folder / "lab.ready"
    command = [sys.executable, "-m", "heliograph_lab", "--state-dir", str(folder / "lab"), "--ready-file", str(ready)]
    process = start(command, log)
    try:
        urls = msgspec.json.decode(wait_for_file(ready, process, log, START_S))
        fake = Fake(urls, process.pid)
        fake.prepare()
        yield fake
    finally:
        stop(process)
