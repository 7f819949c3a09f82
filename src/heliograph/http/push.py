"""Push notifications to agent apps: send, and what became of one."""

from typing import Annotated, Any, Literal

import msgspec

from heliograph.app.pushes import read_push_request, send_push
from heliograph.app.waiting import wait_for_push
from heliograph.domain.errors import NotFound
from heliograph.domain.fields import MAX_TEXT
from heliograph.http.operations import Call, Operation
from heliograph.http.paths import MDM
from heliograph.http.wire import PushNotification, push_notification

TAG = "Push notifications"
FEATURE = "pushNotifications"


_Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]


class Notification(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is shown, and data for the app."""

    body: Annotated[_Text, msgspec.Meta(description="The text; also of a silent push, which shows nothing.")]
    title: Annotated[_Text | None, msgspec.Meta(description="The title.")] = None
    data: Annotated[dict[str, Any] | None, msgspec.Meta(description="Data for the app; Pushy takes 4 kB in all.")] = (
        None
    )


class PushSend(msgspec.Struct, kw_only=True):
    """A push to one of the agent's apps."""

    os: Annotated[
        Literal["ios", "android", "aosp", "macos", "windows", "package"],
        msgspec.Meta(description="The device's platform; package is any other system that runs our agent."),
    ]
    identifier: Annotated[str, msgspec.Meta(description="The device's platform id or all-platform id.")]
    app: Annotated[
        Literal["mdmAgent", "setupAssistant", "remoteSupport", "kioskLauncher"],
        msgspec.Meta(description="Which app of the agent; it has to be registered on the device."),
    ]
    type: Annotated[Literal["notification", "silent"], msgspec.Meta(description="Whether something is shown.")]
    notification: Annotated[Notification, msgspec.Meta(description="What is shown, and data for the app.")]


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
