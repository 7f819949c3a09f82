"""Where Google's Pub/Sub pushes an enterprise's notifications, each under a signed token (extension).

Anything but 2xx makes Pub/Sub push the message again, for days. So 2xx says "need not come again", also for what cannot
be understood; and nobody without Google's token learns whether an enterprise exists.
"""

import msgspec

from heliograph.app.notifications import Verdict, take_notification
from heliograph.app.services import Services
from heliograph.domain.devices import Enterprise
from heliograph.domain.errors import Unauthenticated
from heliograph.http.answers import Answer, Request
from heliograph.http.operations import bearer_token
from heliograph.http.problems import UNAVAILABLE, Problem
from heliograph.ports.channel import Notification, Unreachable

PATH = "/google/notifications/{enterpriseId}"
_AGAIN = {"Retry-After": "10"}
_TAKEN = Answer(b'{"status":true}')


class GoogleNotifications:
    """The push endpoint of all enterprises."""

    def __init__(self, services: Services) -> None:
        self._s = services

    async def take(self, request: Request) -> Answer:
        """POST /google/notifications/{enterpriseId}"""
        enterprise = await self._whose(request)
        notification = self._s.channels.read_notification(_message(request.body))
        if await take_notification(self._s, enterprise, notification) is Verdict.LATER:
            raise Problem(503, UNAVAILABLE, "Not known here yet", _AGAIN)
        return _TAKEN

    async def pass_over(self, request: Request) -> Answer:
        """The same for a body that is too large to be taken in: it would not be smaller the next time."""
        enterprise = await self._whose(request)
        await take_notification(self._s, enterprise, Notification("", "", fault="the body is too large"))
        return _TAKEN

    async def _whose(self, request: Request) -> Enterprise:
        """The enterprise in the path, once the token is known to be Google's for it."""
        token = bearer_token(request.header(b"authorization"))
        enterprise = await self._s.store.directory.enterprise(request.path["enterpriseId"].lower())
        if enterprise is None or not enterprise.push_audience or not enterprise.push_email:
            raise Unauthenticated
        genuine = await self._s.channels.is_from_upstream(token, enterprise.push_audience, enterprise.push_email)
        if isinstance(genuine, Unreachable):
            raise Problem(503, UNAVAILABLE, "The token cannot be checked now", _AGAIN)
        if not genuine:
            raise Unauthenticated
        return enterprise


def _message(body: bytes) -> object:
    """The message in Pub/Sub's wrapper; None where there is none."""
    try:
        wrapper = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
    return wrapper.get("message") if isinstance(wrapper, dict) else None
