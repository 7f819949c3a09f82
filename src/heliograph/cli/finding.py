"""Which device is meant: by id, serial number, IMEI or display name."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from heliograph.cli.client import Api
from heliograph.cli.exits import ExitCode, Failure
from heliograph.domain.ids import is_id

_PAGE = 2_000
_MEMBERS = {
    "android": "emmDevice",
    "aosp": "aosDevice",
    "ios": "admDevice",
    "macos": "admDevice",
    "windows": "winDevice",
}


@dataclass(frozen=True, slots=True)
class Found:
    """A device: its platform, the id that the platform's routes take, and the one that all take."""

    platform: str
    id: str
    all_platform_id: str
    name: str
    serial_number: str | None = None

    def __str__(self) -> str:
        """For people: enough to tell it from another."""
        serial = f", serial {self.serial_number}" if self.serial_number else ""
        return f"{self.name} ({self.platform}{serial})"


def find_device(api: Api, text: str) -> Found:
    """The one device that `text` names; raises Failure when there is none, or more than one."""
    denied: Failure | None = None
    try:
        fits = _among_all(api, text)
    except Failure as failure:
        if failure.exit_code is not ExitCode.NOT_ALLOWED:
            raise
        fits, denied = [], failure
    fits = fits or _on_platforms(api, text)
    if len(fits) > 1:
        candidates = "; ".join(f"{device}, id {device.all_platform_id}" for device in fits[:10])
        raise Failure(ExitCode.CONFLICT, f"{text!r} fits {len(fits)} devices, say which by its id: {candidates}")
    if not fits:
        missing = f"no device has the id, serial number or name {text!r}: heliograph device list"
        raise denied or Failure(ExitCode.NOT_FOUND, missing)
    return fits[0]


def _among_all(api: Api, text: str) -> list[Found]:
    if is_id(text):
        try:
            return [_found(api.get(api.mdm("devices", text)))]
        except Failure as failure:
            if failure.exit_code is not ExitCode.NOT_FOUND:
                raise
    return [_found(item) for item in _devices(api) if text in _names(item)]


def _devices(api: Api) -> Iterator[dict[str, Any]]:
    """All devices. All, because a name that is found on one page may stand on the next, too."""
    page = 1
    while True:
        data = api.get(api.mdm("devices"), limit=_PAGE, page=page)
        yield from data["items"]
        if not data.get("hasNextPage"):
            return
        page += 1


def _names(item: dict[str, Any]) -> tuple[Any, ...]:
    summary = item["summary"]
    return item["displayName"], summary.get("serialNumber"), summary.get("imei")


def _on_platforms(api: Api, text: str) -> list[Found]:
    """By the platforms' own routes: they know enrollment-specific ids, and suffice a key for one platform."""
    fits: list[Found] = []
    for platform in ("android", "aosp") if is_id(text) else ("android",):
        try:
            item = api.get(api.mdm(platform, "enterprise", "devices", text))
        except Failure as failure:
            if failure.exit_code not in (ExitCode.NOT_FOUND, ExitCode.NOT_ALLOWED):
                raise
        else:
            fits.append(
                Found(platform, item["id"], item["id"], item["displayName"], item["summary"].get("serialNumber"))
            )
    return fits


def _found(item: dict[str, Any]) -> Found:
    platform = str(item["summary"]["os"])
    own = item.get(_MEMBERS.get(platform, ""), item["id"])
    return Found(platform, own, item["id"], item["displayName"], item["summary"].get("serialNumber"))
