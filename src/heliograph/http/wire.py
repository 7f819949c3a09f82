"""Records on the wire. The only place where a rung becomes a contract status (contract decisions 11 to 13).

Members are named as in the contract; those that are not set are left out.
"""

from collections.abc import Sequence
from typing import Any, Generic, Literal, TypeVar

import msgspec

from heliograph.app.turns import Turn
from heliograph.domain.deliveries import Push
from heliograph.domain.devices import Device, Organization
from heliograph.domain.ladder import TERMINAL, Command, Entry, Rung
from heliograph.domain.times import time_text

T = TypeVar("T")

SHOWN_ENTRIES = 100  # of the beginning of a history, and as many of its end

STATUS: dict[Rung, tuple[str, str]] = {  # rung → Android, AOSP
    **{rung: ("PENDING", "PENDING") for rung in Rung if rung not in TERMINAL},
    Rung.SUCCEEDED: ("DONE", "DONE"),
    Rung.FAILED: ("DONE", "ERROR"),
    Rung.UNDELIVERABLE: ("DONE", "ERROR"),
    Rung.EXPIRED_UNDELIVERED: ("DONE", "EXPIRED"),
    Rung.EXPIRED_RUNNING: ("DONE", "EXPIRED"),
    Rung.CANCELLED: ("CANCEL", "CANCEL"),
    Rung.SUPERSEDED: ("CANCEL", "CANCEL"),
}


class Shape(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True, rename="camel"):
    """Base of the wire's shapes."""


class HistoryEntry(Shape, frozen=True):
    """One line of a history: where the record stood, since when, who says so, with what evidence."""

    rung: str
    at: str
    source: str
    evidence: dict[str, Any]


class QueueView(Shape, frozen=True):
    """Extension: where a command stands that waits for its turn at Google."""

    position: int
    expected_seconds: int


class Progress(Shape, frozen=True):
    """Extension: the exact state behind `status`, with its history. `queue` only while it waits under a quota."""

    rung: str
    at: str
    history: list[HistoryEntry]
    cancel_requested_at: str | None = None
    queue: QueueView | None = None


class EmmCommand(Shape, frozen=True):
    """An Android command. `config` is Google's operation in short, `_config` as it was received."""

    id: str
    organization: str
    emm_enterprise: str
    status: Literal["DONE", "PENDING", "CANCEL"]
    config: dict[str, Any]
    raw_config: dict[str, Any] = msgspec.field(name="_config")
    progress: Progress
    updated_at: str
    created_at: str
    mdm_user: str | None = None


class AosCommand(Shape, frozen=True):
    """An AOSP command."""

    id: str
    organization: str
    aos_enterprise: str
    aos_device: str
    command: str
    params: dict[str, Any]
    status: Literal["PENDING", "DONE", "ERROR", "CANCEL", "EXPIRED"]
    duration: float
    expires_at: str
    progress: Progress
    updated_at: str
    created_at: str
    mdm_user: str | None = None
    push_id: str | None = None
    error_message: str | None = None


class AosPushStatus(Shape, frozen=True):
    """Delivery of the wake-up push; empty while no provider has accepted one."""

    delivered: bool | None = None
    pending_devices: int | None = None
    expires_at: str | None = None
    sent_at: str | None = None


class PushNotification(Shape, frozen=True):
    """Extension: a push that was accepted for sending. `provider` is its kind, `status` the delivery rung."""

    id: str
    provider: str
    status: str
    created_at: str
    expires_at: str
    progress: Progress | None = None


class Summary(Shape, frozen=True):
    """A device's flat digest."""

    name: str
    os: str
    serial_number: str | None = None
    imei: str | None = None
    management_mode: str | None = None


class EmmDevice(Shape, frozen=True):
    """An Android Enterprise device."""

    id: str
    organization: str
    display_name: str
    type: Literal["android"]
    sub_type: Literal["device"]
    state: str
    summary: Summary
    config: dict[str, Any]
    enrolled_date: str
    updated_at: str
    created_at: str
    emm_enterprise: str | None = None
    last_status_report_time: str | None = None


class AosDevice(Shape, frozen=True):
    """An AOSP device."""

    id: str
    organization_id: str
    aos_enterprise_id: str
    type: Literal["aosp"]
    sub_type: Literal["device"]
    state: str
    display_name: str
    summary: Summary
    enrolled_date: str
    updated_at: str
    created_at: str
    push_notification_provider: str | None = None
    mdm_user_id: str | None = None
    last_status_report_time: str | None = None


class AnyDevice(Shape, frozen=True):
    """A device of any platform by its all-platform id; the platform's own id stands in `emmDevice`, `aosDevice` …"""

    id: str
    organization: str
    type: str
    sub_type: Literal["device"]
    state: str
    display_name: str
    summary: Summary
    updated_at: str
    created_at: str
    emm_device: str | None = None
    aos_device: str | None = None
    adm_device: str | None = None
    win_device: str | None = None


class OrganizationView(msgspec.Struct, kw_only=True, frozen=True, rename="camel"):
    """An organization."""

    id: str
    mongo_id: str = msgspec.field(name="_id")
    slug: str
    name: str
    created_at: str
    updated_at: str


class PageOf(msgspec.Struct, Generic[T], kw_only=True, frozen=True, rename="camel"):
    """One page of a list (contract decision 10)."""

    items: list[T]
    total_docs: int
    limit: int
    page: int
    total_pages: int
    paging_counter: int
    has_prev_page: bool
    has_next_page: bool
    prev_page: int | None
    next_page: int | None


def progress_of(record: Command | Push, entries: Sequence[Entry]) -> Progress:
    """The extension object of a record. Of a history that is too long to be shown, the middle is left out."""
    # The record may have moved since it was read: its history is shown as far as it had come then.
    entries = [entry for entry in entries if entry.seq < record.entries]
    if len(entries) > 2 * SHOWN_ENTRIES:
        entries = [*entries[:SHOWN_ENTRIES], *entries[-SHOWN_ENTRIES:]]
    history = [HistoryEntry(rung=e.rung, at=time_text(e.at), source=e.source, evidence=e.evidence) for e in entries]
    asked_at = record.cancel_requested_at if isinstance(record, Command) else None
    asked = None if asked_at is None else time_text(asked_at)
    return Progress(rung=record.rung, at=time_text(record.rung_at), history=history, cancel_requested_at=asked)


def _config(command: Command) -> dict[str, Any]:
    """Google's operation in short, or what stands for it before there is one."""
    operation = command.operation
    if operation is None:
        metadata = {"type": command.type, "duration": command.params.get("duration")}
        config: dict[str, Any] = {"metadata": metadata, "done": command.is_over}
    else:
        config = {"metadata": operation.get("metadata", {}), "done": command.is_over or bool(operation.get("done"))}
        if "error" in operation:
            config["error"] = operation["error"]
    if command.reason is not None and "error" not in config:
        config["error"] = {"code": command.reason.code, "message": command.reason.message}
    return config


def emm_command(command: Command, entries: Sequence[Entry], turn: Turn | None = None) -> EmmCommand:
    """An Android command on the wire; `turn` = where it stands in the queue, if that was asked for."""
    progress = progress_of(command, entries)
    if turn is not None:
        view = QueueView(position=turn.position, expected_seconds=turn.expected_s)
        progress = msgspec.structs.replace(progress, queue=view)
    return EmmCommand(
        id=command.id,
        organization=command.organization_id,
        emm_enterprise=command.enterprise_id,
        mdm_user=command.mdm_user_id,
        status=STATUS[command.rung][0],  # type: ignore[arg-type]  # the table's values are the literals
        config=_config(command),
        raw_config=command.operation or {},
        progress=progress,
        updated_at=time_text(command.updated_at),
        created_at=time_text(command.created_at),
    )


def aos_command(command: Command, entries: Sequence[Entry]) -> AosCommand:
    """An AOSP command on the wire."""
    seconds = command.duration_us / 1_000_000
    return AosCommand(
        id=command.id,
        organization=command.organization_id,
        aos_enterprise=command.enterprise_id,
        aos_device=command.device_id,
        mdm_user=command.mdm_user_id,
        command=command.type,
        params=command.params,
        push_id=command.push_id,
        status=STATUS[command.rung][1],  # type: ignore[arg-type]  # the table's values are the literals
        duration=int(seconds) if seconds.is_integer() else seconds,
        expires_at=time_text(command.expires_at),
        error_message=f"{command.reason.code}: {command.reason.message}".rstrip(": ") if command.reason else None,
        progress=progress_of(command, entries),
        updated_at=time_text(command.updated_at),
        created_at=time_text(command.created_at),
    )


def push_notification(push: Push, entries: Sequence[Entry] | None = None) -> PushNotification:
    """A push on the wire; with its history where that was read."""
    return PushNotification(
        id=push.id,
        provider=push.provider,
        status=push.rung,
        created_at=time_text(push.created_at),
        expires_at=time_text(push.expires_at),
        progress=None if entries is None else progress_of(push, entries),
    )


def _summary(device: Device) -> Summary:
    return Summary(
        name=device.name,
        os=device.platform,
        serial_number=device.serial_number,
        imei=device.imei,
        management_mode=device.management_mode,
    )


def _seen(device: Device) -> str | None:
    return None if device.last_seen_at is None else time_text(device.last_seen_at)


def emm_device(device: Device) -> EmmDevice:
    """An Android device on the wire."""
    config = {"name": device.external_name, "ownership": device.ownership, "managementMode": device.management_mode}
    return EmmDevice(
        id=device.id,
        organization=device.organization_id,
        emm_enterprise=device.enterprise_id,
        display_name=device.name,
        type="android",
        sub_type="device",
        state=device.state,
        summary=_summary(device),
        config={name: value for name, value in config.items() if value is not None},
        enrolled_date=time_text(device.created_at),
        updated_at=time_text(device.updated_at),
        created_at=time_text(device.created_at),
        last_status_report_time=_seen(device),
    )


def aos_device(device: Device) -> AosDevice:
    """An AOSP device on the wire."""
    return AosDevice(
        id=device.id,
        organization_id=device.organization_id,
        aos_enterprise_id=device.enterprise_id or "",
        type="aosp",
        sub_type="device",
        state=device.state,
        display_name=device.name,
        summary=_summary(device),
        push_notification_provider=device.provider_account_id,
        mdm_user_id=device.mdm_user_id,
        enrolled_date=time_text(device.created_at),
        updated_at=time_text(device.updated_at),
        created_at=time_text(device.created_at),
        last_status_report_time=_seen(device),
    )


_PLATFORM_ID = {
    "android": "emm_device",
    "aosp": "aos_device",
    "ios": "adm_device",
    "macos": "adm_device",
    "windows": "win_device",
}


def any_device(device: Device) -> AnyDevice:
    """A device on the all-platform wire."""
    member = _PLATFORM_ID.get(device.platform)
    types = {"ios": "apple", "macos": "apple"}
    return AnyDevice(
        id=device.all_platform_id,
        organization=device.organization_id,
        type=types.get(device.platform, device.platform),
        sub_type="device",
        state=device.state,
        display_name=device.name,
        summary=_summary(device),
        updated_at=time_text(device.updated_at),
        created_at=time_text(device.created_at),
        **({member: device.id} if member else {}),
    )


def organization_view(organization: Organization) -> OrganizationView:
    """An organization on the wire."""
    return OrganizationView(
        id=organization.id,
        mongo_id=organization.id,
        slug=organization.slug,
        name=organization.name,
        created_at=time_text(organization.created_at),
        updated_at=time_text(organization.updated_at),
    )
