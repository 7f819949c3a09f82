"""Where Google's Pub/Sub pushes an enterprise's notifications, each under a signed token (extension).

Anything but 2xx makes Pub/Sub push the message again, for days. So 2xx says "need not come again", also for what cannot
be understood; and nobody without Google's token learns whether an enterprise exists.
"""

import msgspec

from heliograph.app.notifications import Verdict, take_notification
from heliograph.app.services import Services
from heliograph.domain.errors import Unauthenticated
from heliograph.http.answers import Answer, Request
from heliograph.http.operations import bearer_token
from heliograph.http.problems import UNAVAILABLE, Problem
from heliograph.ports.channel import Unreachable

PATH = "/google/notifications/{enterpriseId}"
_AGAIN = {"Retry-After": "10"}
_TAKEN = Answer(b'{"status":true}')


class GoogleNotifications:
    """The push endpoint of all enterprises."""

    def __init__(self, services: Services) -> None:
        self._s = services

    async def take(self, request: Request) -> Answer:
        """POST /google/notifications/{enterpriseId}"""
        token = bearer_token(request.header(b"authorization"))
        enterprise = await self._s.store.directory.enterprise(request.path["enterpriseId"].lower())
        if enterprise is None or not enterprise.push_audience or not enterprise.push_email:
            raise Unauthenticated
        genuine = await self._s.channels.is_from_upstream(token, enterprise.push_audience, enterprise.push_email)
        if isinstance(genuine, Unreachable):
            raise Problem(503, UNAVAILABLE, "The token cannot be checked now", _AGAIN)
        if not genuine:
            raise Unauthenticated
        notification = self._s.channels.read_notification(_message(request.body))
        if await take_notification(self._s, enterprise, notification) is Verdict.LATER:
            raise Problem(503, UNAVAILABLE, "Not known here yet", _AGAIN)
        return _TAKEN


def _message(body: bytes) -> object:
    """The message in Pub/Sub's wrapper; None where there is none."""
    try:
        wrapper = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
    return wrapper.get("message") if isinstance(wrapper, dict) else None
