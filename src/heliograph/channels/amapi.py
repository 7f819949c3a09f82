"""The Android Management API as a management channel: issue, list, get and cancel, over REST.

Contract: the discovery document, revision 20261104 (methods of enterprises.devices and its operations). Google's own
client is not used: it is synchronous, and cannot tell "never sent" from "no answer", on which a retry depends.
"""

import asyncio
import math
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

from heliograph.channels.amapi_answers import (
    cancel_answer,
    error_of,
    issue_answer,
    read_answer,
    usable_operation,
)
from heliograph.channels.oidc import CERTS_URL
from heliograph.channels.pubsub import BASE_URL as PUBSUB_URL
from heliograph.domain.catalog import TYPES
from heliograph.domain.command_types import secrets_in
from heliograph.domain.devices import Device
from heliograph.domain.ladder import Command
from heliograph.outbound import Exchange, NotSent, Outbound, Reply
from heliograph.outbound.google import NoToken, TokenSource
from heliograph.ports.channel import (
    CancelRefused,
    CancelTaken,
    Gone,
    IssueAnswer,
    ListPage,
    Operations,
    Refused,
    Taken,
    Toll,
    Uncertain,
    Unreachable,
)

T = TypeVar("T")

BASE_URL = "https://androidmanagement.googleapis.com"
PAGE_SIZE = 100
MAX_PAGES = 100
_OF_ANOTHER = "the answer is not about this device"
_PROVE_AGAIN_S = 5.0
_TOLD_OF_LATE_S = 3600.0  # two clocks that nobody compares are apart by less than a second then
MAX_ANSWER_BYTES = 16 * 1024 * 1024  # a page of devices, each with all reports that its policy asks for


@dataclass(frozen=True, slots=True)
class AmapiSettings:
    """What an operator may set. A deadline holds for a call as a whole: token, all pages, the repeat after 401. Each
    page of a list of operations has the time of a read.
    """

    base_url: str = BASE_URL
    pubsub_url: str = PUBSUB_URL
    certs_url: str = CERTS_URL
    read_timeout_s: float = 2.0
    cancel_timeout_s: float = 2.0
    list_timeout_s: float = 20.0
    token_timeout_s: float = 10.0


class AmapiChannel:
    """One enterprise at Google. Implements `ports.channel.ManagementChannel`."""

    def __init__(self, tokens: TokenSource, settings: AmapiSettings, project: str = "") -> None:
        self._tokens, self._settings, self.project = tokens, settings, project
        self._http = Outbound(settings.base_url.rstrip("/"), max_body_bytes=MAX_ANSWER_BYTES)
        self._unproved: Unreachable | None = None
        self._prove_at = 0.0
        self._told = (0.0, -math.inf)  # what time it was for Google, and for us

    def time(self) -> int | None:
        """By the Date of the last answer, which is not later than it came, and by the clock that nobody sets."""
        at_s, heard = self._told
        since_s = _now() - heard
        return int((at_s + since_s) * 1_000_000) if since_s < _TOLD_OF_LATE_S else None

    async def authorise(self) -> Unreachable | None:
        """Have an access token. Where there is none, that holds for a moment: no quota slows down who asks for one."""
        if self._unproved is not None and _now() < self._prove_at:
            return self._unproved
        token = await self._tokens.token(deadline_s=self._settings.read_timeout_s)
        self._unproved = Unreachable(token.reason, token.after_s) if isinstance(token, NoToken) else None
        self._prove_at = _now() + _PROVE_AGAIN_S
        return self._unproved

    async def issue(
        self, device: Device, command: Command, params: Mapping[str, Any], deadline_s: float
    ) -> IssueAnswer:
        """Hand over a command once."""
        path = _path(device.external_name, "devices")
        if path is None:
            return Refused("NO_UPSTREAM_NAME", "the device has no usable name at Google")
        body = _command_body(command, params)
        if body is None:
            return Refused("UNSUPPORTED_TYPE", f"{command.type} cannot be written as a command of Google's")
        reply = await self._call("POST", f"{path}:issueCommand", _Deadline(deadline_s), json=body)
        answer = issue_answer(reply, secrets_in(params))
        if isinstance(answer, Taken) and not _is_of(answer.operation, device):
            return Uncertain(_OF_ANOTHER)  # somebody in between mixes answers up
        return answer

    async def operations(self, device: Device, toll: Toll | None = None) -> Operations | Gone | Unreachable:
        """All operations of a device. A list that may be cut short is no list: absence from it would prove nothing. One
        operation that cannot be read hides no others.
        """
        path = _path(device.external_name, "devices")
        if path is None:
            return Gone("the device has no usable name at Google")
        times: list[float] = []
        deadline = _Deadline(self._settings.list_timeout_s, self._settings.read_timeout_s)
        pages = await self._pages(f"{path}/operations", "operations", deadline, times, toll)
        if not isinstance(pages, list):
            return pages
        found = [operation for raw in pages if (operation := usable_operation(raw)) is not None]
        if not all(_is_of(operation, device) for operation in found):
            return Unreachable(_OF_ANOTHER)
        return Operations(found, int(times[-1] * 1_000_000) if times else None, len(found) == len(pages))

    async def device_page(self, enterprise: str, page_token: str) -> ListPage | Gone | Unreachable:
        """One page of an enterprise's devices."""
        path = _path(enterprise, "enterprises")
        if path is None:
            return Gone("not the name of an enterprise")
        deadline = _Deadline(self._settings.list_timeout_s)
        page, _ = await self._page(f"{path}/devices", "devices", deadline, page_token)
        return page

    async def device(self, name: str) -> dict[str, Any] | Gone | Unreachable:
        """One device, as Google describes it now."""
        path = _path(name, "devices")
        if path is None:
            return Gone("not the name of a device")
        answer = read_answer(await self._call("GET", path, _Deadline(self._settings.read_timeout_s)))
        if isinstance(answer, dict) and answer.get("name") != name:
            return Unreachable("the answer is not this device")
        return answer

    async def _pages(
        self, path: str, member: str, deadline: "_Deadline", times: list[float], toll: Toll | None
    ) -> list[Any] | Gone | Unreachable:
        """The items of all pages of a list. What time each answer says that it is goes to `times`."""
        items: list[Any] = []
        asked: set[str] = set()
        page_token = ""
        while page_token not in asked and len(asked) < MAX_PAGES:
            asked.add(page_token)
            refused = None if toll is None else await deadline.without(toll())
            if refused is not None:
                return refused
            page, at_s = await self._page(path, member, deadline, page_token)
            if at_s is not None:
                times.append(at_s)
            if not isinstance(page, ListPage):
                return page
            items += page.items
            if not page.next_token:
                return items
            page_token = page.next_token
        return Unreachable(f"the list of {member} does not end")

    async def _page(
        self, path: str, member: str, deadline: "_Deadline", page_token: str
    ) -> tuple[ListPage | Gone | Unreachable, float | None]:
        """One page of a list, and what time its answer says that it is. A page that leaves anything out is none."""
        query = {"pageSize": str(PAGE_SIZE)} | ({"pageToken": page_token} if page_token else {})
        reply = await self._call("GET", path, deadline, params=query)
        at_s = reply.at_s if isinstance(reply, Reply) else None
        page = read_answer(reply)
        if not isinstance(page, dict):
            return page, at_s
        listed, next_token = page.get(member, []), page.get("nextPageToken", "")
        if not isinstance(listed, list) or not isinstance(next_token, str) or page.get("unreachable"):
            return Unreachable(f"a page that is no list of {member}"), at_s
        return ListPage(listed, next_token), at_s

    async def operation(self, name: str) -> dict[str, Any] | Gone | Unreachable:
        """One operation."""
        path = _path(name, "operations")
        if path is None:
            return Gone("not the name of an operation")
        answer = read_answer(await self._call("GET", path, _Deadline(self._settings.read_timeout_s)))
        if not isinstance(answer, dict):
            return answer
        operation = usable_operation(answer)
        if operation is None or operation["name"] != name:
            return Unreachable("the answer is not this operation")
        return operation

    async def cancel(self, name: str) -> CancelTaken | CancelRefused | Unreachable:
        """Ask to cancel an operation."""
        path = _path(name, "operations")
        if path is None:
            return CancelRefused(404, "not the name of an operation")
        return cancel_answer(await self._call("POST", f"{path}:cancel", _Deadline(self._settings.cancel_timeout_s)))

    async def _call(
        self,
        method: str,
        path: str,
        deadline: "_Deadline",
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
    ) -> Exchange:
        """One authorised request; once more with a new token where Google refuses the one we hold."""
        refused: str | None = None
        reply: Exchange = NotSent("no attempt")
        for _ in range(2):
            token = await self._tokens.token(deadline_s=deadline.left_s, refused=refused)
            if isinstance(token, NoToken):
                return NotSent(token.reason, token.after_s)
            reply = await self._http.exchange(
                method,
                path,
                deadline_s=deadline.left_s,
                params=params,
                headers={"Authorization": f"Bearer {token}"},
                json=json,
            )
            self._hear_time(reply)
            if not isinstance(reply, Reply) or reply.status != 401:
                break
            refused = token
        return reply

    def _hear_time(self, reply: Exchange) -> None:
        """Of Google itself: what stands before it may have another clock."""
        if not isinstance(reply, Reply) or reply.at_s is None:
            return
        if (reply.status == 200 and reply.body[:1] == b"{") or error_of(reply) is not None:
            self._told = reply.at_s, _now()

    async def close(self) -> None:
        """Let go of connections; calls in flight end first."""
        await self._tokens.close()
        await self._http.close()


def _now() -> float:
    return asyncio.get_running_loop().time()


class _Deadline:
    """The end of a call that takes several requests, of which each may take `each_s`."""

    def __init__(self, seconds: float, each_s: float = math.inf) -> None:
        self._end, self._each_s = _now() + seconds, each_s

    @property
    def left_s(self) -> float:
        return min(self._each_s, self._end - _now())

    async def without(self, waiting: Awaitable[T]) -> T:
        """Wait for something that does not count."""
        left_s = self._end - _now()
        try:
            return await waiting
        finally:
            self._end = _now() + left_s


def _is_of(operation: Mapping[str, Any], device: Device) -> bool:
    return str(operation["name"]).startswith(f"{device.external_name}/operations/")


def _path(name: str | None, last: str) -> str | None:
    """The URL path of a resource name, `enterprises/E/devices/D` with `/operations/O`; None for any other text."""
    kinds = ["enterprises", "devices", "operations"]
    expected = kinds[: kinds.index(last) + 1]
    parts = (name or "").split("/")
    if parts[::2] != expected or len(parts) != 2 * len(expected) or any(part in ("", ".", "..") for part in parts):
        return None
    try:
        return "/v1/" + "/".join(quote(part, safe="") for part in parts)
    except UnicodeEncodeError:
        return None


def _command_body(command: Command, params: Mapping[str, Any]) -> dict[str, Any] | None:
    """The body from validated fields only, with the type and the life always spelled out (decisions 26 and 27)."""
    entry = TYPES.get(command.type)
    if entry is None or entry.amapi is None:
        return None
    try:
        encoded = entry.amapi.encode(params)
    except (LookupError, TypeError, ValueError, AttributeError):
        return None
    duration = params.get("duration") or f"{command.duration_us / 1_000_000:.6f}s"
    return encoded | {"type": command.type, "duration": duration}
