"""Push notifications to agent apps: send, and what became of one."""

from typing import Any

import msgspec

from heliograph.app.pushes import read_push_request, send_push
from heliograph.app.waiting import wait_for_push
from heliograph.domain.errors import NotFound
from heliograph.http.operations import Call, Operation
from heliograph.http.paths import MDM
from heliograph.http.wire import PushNotification, push_notification

TAG = "Push notifications"
FEATURE = "pushNotifications"


class Notification(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is shown, and free data for the app. Texts have at most 256 characters."""

    body: str
    title: str | None = None
    data: dict[str, Any] | None = None


class PushSend(msgspec.Struct, kw_only=True):
    """Body of a push. `identifier` is the platform device id or the all-platform id."""

    os: str
    identifier: str
    app: str
    type: str
    notification: Notification


async def send(call: Call) -> PushNotification:
    request = read_push_request(call.body)
    return push_notification(await send_push(call.services, call.work, request, call.source))


async def get(call: Call) -> PushNotification:
    push = await call.work.pushes.find(call.id("pushNotificationId"))
    if push is None or push.command_id is not None:
        raise NotFound
    push = await wait_for_push(call.services, call.work, push, call.query.wait_s)
    entries = await call.work.history.of([push.id])
    return push_notification(push, entries.get(push.id, []))


OPERATIONS = (
    Operation(
        method="POST",
        path=f"{MDM}/push-notifications/send",
        id="sendPushNotification",
        summary="Send a push message to one of the agent's apps on one device",
        tag=TAG,
        permission="mdm.pushNotification.send",
        feature=FEATURE,
        body=PushSend,
        answer=PushNotification,
        handler=send,
        refusals=(5050, 5209),
    ),
    Operation(
        method="GET",
        path=f"{MDM}/push-notifications/{{pushNotificationId}}",
        id="getPushNotification",
        summary="What became of a push",
        tag=TAG,
        permission="mdm.pushNotification.get",
        feature=FEATURE,
        answer=PushNotification,
        handler=get,
        waits=True,
        extension=True,
        refusals=(5050, 5209),
    ),
)
