"""The emulator: the HTTP v1 API on one side, the devices' connections on the other."""

import re
import secrets
import time
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

import msgspec

from heliograph_lab.amapi.oauth import UNKNOWN_PROJECT, lives, project_of_token
from heliograph_lab.fcm import checks
from heliograph_lab.fcm.errors import FcmError, permission_denied, plain, unauthenticated, usual
from heliograph_lab.fcm.model import Kind, Message, Registration
from heliograph_lab.fcm.settings import FcmSettings
from heliograph_lab.fcm.store import FcmStore
from heliograph_lab.http2 import Answer, Authority, Outcome, Request, Server
from heliograph_lab.http2.rules import Rules
from heliograph_lab.kernel import Kernel
from heliograph_lab.lines import Lines

Deliver = Callable[[Message], Awaitable[None]]  # returns once the device has it
NAMES = ("fcm.googleapis.com",)
_SEND = re.compile(r"/v1/projects/(?P<project>[^/]+)/messages:send")
_DRY_RUN = "fake_message_id"  # what Google answers to validate_only
_HEADERS = (("content-type", "application/json; charset=UTF-8"),)


class FcmEmulator:
    """`server` is complete: requests are recorded and faults applied. Bearer tokens are those of the AMAPI emulator's
    token endpoint, which is Google's for every API.

    `sent` counts what became of accepted messages: delivered, stored, dropped.
    """

    def __init__(self, kernel: Kernel, authority: Authority) -> None:
        self.settings = kernel.settings.open("fcm", FcmSettings())
        self.store = FcmStore(kernel, self.settings)
        self.sent = {"delivered": 0, "stored": 0, "dropped": 0}
        self._minute: dict[str, tuple[int, int]] = {}
        self._lines: Lines[Message] = Lines(self._taken)
        self.server = Server(self._handle, authority.server_context(NAMES), script=Rules(kernel, "fcm", _fault))

    async def stop(self) -> None:
        """End every connection, of senders and devices. What devices have not got waits for them, if it may."""
        await self.server.stop()
        for left in (await self._lines.stop()).values():
            await self._keep(left)

    # ------------------------------------------------------------ the devices' side

    async def register(self, project: str, owner: str, kind: Kind = "token") -> str:
        """A registration token or installation id of this app; the same for the same owner until it ends."""
        return await self.store.register(project, owner, kind)

    async def end(self, address: str) -> None:
        """The app has been removed, or its registration is too old: messages to it get 404 UNREGISTERED."""
        registration = self.store.registration(address)
        if registration is None:
            raise LookupError(f"no registration {address}")
        await self._lines.disconnect(address)
        await self.store.end(registration)

    async def connect(self, address: str, deliver: Deliver) -> None:
        """The device comes online: what waits is delivered in the order of sending, then what follows."""
        await self.disconnect(address)
        self._lines.connect(address, deliver)
        for message in self.store.waiting(address):
            self._lines.offer(address, message)

    async def disconnect(self, address: str) -> None:
        """The device goes offline. What it has not got waits for it."""
        await self._keep(await self._lines.disconnect(address))

    def is_online(self, address: str) -> bool:
        """Whether the device is connected."""
        return self._lines.is_online(address)

    # ------------------------------------------------------------ the senders' side

    def _handle(self, request: Request) -> Outcome | Awaitable[Outcome]:
        try:
            project = self._authorized(request)
            self._count(project)
            wanted = checks.read(request.body)
            registration = self._registration(project, wanted)
        except FcmError as error:
            return _refused(error)
        if wanted.validate_only:
            return _accepted(project, _DRY_RUN)
        message = self._message(wanted)
        answer = _accepted(project, message.name)
        if registration is None:
            self.sent["dropped"] += 1
            return answer
        if self._lines.offer(message.address, message):
            return answer
        return self._answer_when_stored(message, answer)

    def _authorized(self, request: Request) -> str:
        found = _SEND.fullmatch(unquote(request.path.partition("?")[0]))
        if found is None or request.method != "POST":
            raise plain(404, "NOT_FOUND", f"The lab's FCM has no {request.method} {request.path}")
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise unauthenticated("CREDENTIALS_MISSING")
        if not lives(token, self.store.now()):
            raise unauthenticated("ACCESS_TOKEN_EXPIRED")
        account = project_of_token(token)
        if account not in {UNKNOWN_PROJECT, found["project"]}:
            raise permission_denied(found["project"])
        return found["project"]

    def _count(self, project: str) -> None:
        now = int(self.store.now())
        minute, used = self._minute.get(project, (now // 60, 0))
        used = used + 1 if minute == now // 60 else 1
        self._minute[project] = (now // 60, used)
        if used > self.settings.requests_per_minute:
            raise usual(429, retry_after=60 - now % 60)

    def _registration(self, project: str, wanted: checks.Wanted) -> Registration | None:
        checks.see_that_it_is_one(wanted.kind, wanted.address)
        registration = self.store.registration(wanted.address)
        if registration is None:
            if self.settings.unknown_tokens:
                return None
            raise usual(400)
        if registration.project != project:
            raise usual(403)
        if registration.ended:
            raise usual(404)
        return registration

    def _message(self, wanted: checks.Wanted) -> Message:
        return Message(
            name=f"0:{time.time_ns() // 1000}%{secrets.token_hex(8)}",
            address=wanted.address,
            order=self.store.next_order(),
            data=wanted.data,
            notification=wanted.notification,
            priority="high" if wanted.high else "normal",
            collapse_key=wanted.collapse_key,
            expiration=self.store.now() + wanted.life if wanted.life > 0 else None,
        )

    async def _answer_when_stored(self, message: Message, answer: Answer) -> Outcome:
        await self._keep([message])
        return answer

    async def _keep(self, messages: list[Message]) -> None:
        for message in messages:
            if not self._lines.offer(message.address, message):  # it may have come online meanwhile
                stored = await self.store.keep(message)
                self.sent["stored" if stored else "dropped"] += 1

    async def _taken(self, _address: str, message: Message) -> None:
        self.sent["delivered"] += 1
        await self.store.taken(message)


def _accepted(project: str, name: str) -> Answer:
    return Answer(200, _HEADERS, msgspec.json.encode({"name": f"projects/{project}/messages/{name}"}))


def _refused(error: FcmError) -> Answer:
    after = (("retry-after", str(error.retry_after)),) if error.retry_after is not None else ()
    return Answer(error.status, (*_HEADERS, *after), msgspec.json.encode(error.body))


def _fault(request: Request, status: int, reason: str | None) -> Answer:
    if status < 300:
        found = _SEND.fullmatch(unquote(request.path))
        return _accepted(found["project"] if found else "none", f"0:{time.time_ns() // 1000}%fault")
    return _refused(usual(status, reason))
