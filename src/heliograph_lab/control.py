"""The lab's control API: devices, faults, settings, requests and time, for scripts and tests. Loopback only."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from heliograph_lab.faults import SERVICES, FaultError
from heliograph_lab.fleet import DeviceSpec, DeviceState, Fleet, FleetError, UnknownDeviceError
from heliograph_lab.kernel import Kernel
from heliograph_lab.state import timestamp
from heliograph_lab.web import Reply, Request, Router


class _RefusedError(ValueError):
    """A request that cannot be meant."""


Settled = Callable[[str | None], Awaitable[None]]


def control_app(kernel: Kernel, fleet: Fleet, settled: Settled) -> Router:
    """The control API as an ASGI app. `settled` waits until a device (None: all) is as it shall be."""
    control = _Control(kernel, fleet, settled)
    router = Router(on_error=_on_error, no_route=_no_route)
    router.add("GET", "/health", control.health)
    router.add("GET", "/devices", control.devices)
    router.add("GET", "/devices/{deviceId}", control.device)
    router.add("PUT", "/devices/{deviceId}", control.put_device)
    router.add("DELETE", "/devices/{deviceId}", control.delete_device)
    router.add("GET", "/devices/{deviceId}/journal", control.journal)
    router.add("PUT", "/fleet", control.put_fleet)
    router.add("GET", "/faults", control.faults)
    router.add("PUT", "/faults", control.put_faults)
    router.add("DELETE", "/faults", control.delete_faults)
    router.add("GET", "/settings", control.settings)
    router.add("PUT", "/settings", control.put_settings)
    router.add("DELETE", "/settings", control.delete_settings)
    router.add("GET", "/requests", control.requests)
    router.add("GET", "/clock", control.clock)
    router.add("PUT", "/clock", control.put_clock)
    return router


class _Control:
    def __init__(self, kernel: Kernel, fleet: Fleet, settled: Settled) -> None:
        self._kernel = kernel
        self._fleet = fleet
        self._settled = settled

    async def health(self, _request: Request) -> Reply:
        return Reply({"status": "ok"})

    async def devices(self, _request: Request) -> Reply:
        return Reply({"items": [shown(device) for device in self._fleet.devices()]})

    async def device(self, request: Request) -> Reply:
        return Reply(shown(self._fleet.get(request.params["deviceId"])))

    async def put_device(self, request: Request) -> Reply:
        device = await self._fleet.update(request.params["deviceId"], request.json())
        await self._settled(device.spec.device_id)
        return Reply(shown(device))

    async def delete_device(self, request: Request) -> Reply:
        await self._fleet.remove(request.params["deviceId"])
        return Reply({})

    async def journal(self, request: Request) -> Reply:
        device = self._fleet.get(request.params["deviceId"])
        return Reply({"items": self._kernel.journal.items(device.spec.device_id)})

    async def put_fleet(self, request: Request) -> Reply:
        try:
            specs = msgspec.convert(request.json(), list[DeviceSpec])
        except msgspec.ValidationError as error:
            raise _RefusedError(f"fleet: {error}") from None
        await self._fleet.put_all(specs)
        await self._settled(None)
        return await self.devices(request)

    async def faults(self, _request: Request) -> Reply:
        return Reply(self._kernel.faults.rules())

    async def put_faults(self, request: Request) -> Reply:
        self._kernel.faults.replace(request.json())
        return Reply(self._kernel.faults.rules())

    async def delete_faults(self, _request: Request) -> Reply:
        self._kernel.faults.clear()
        return Reply([])

    async def settings(self, _request: Request) -> Reply:
        return Reply(self._kernel.settings.shown())

    async def put_settings(self, request: Request) -> Reply:
        await self._kernel.settings.change(request.json())
        return await self.settings(request)

    async def delete_settings(self, request: Request) -> Reply:
        await self._kernel.settings.reset()
        return await self.settings(request)

    async def requests(self, request: Request) -> Reply:
        service = request.query.get("service")
        if service is not None and service not in SERVICES:
            raise _RefusedError(f"service: must be one of {', '.join(SERVICES)}")
        return Reply({"items": self._kernel.requests.items(service)})

    async def clock(self, _request: Request) -> Reply:
        clock = self._kernel.clock
        return Reply({"now": timestamp(clock.now()), "offsetSeconds": clock.offset})

    async def put_clock(self, request: Request) -> Reply:
        body = request.json()
        seconds = body.get("advanceSeconds") if isinstance(body, dict) and len(body) == 1 else None
        if not isinstance(seconds, int | float) or isinstance(seconds, bool):
            raise _RefusedError('the body must be {"advanceSeconds": number}')
        await self._kernel.clock.advance(seconds)
        return await self.clock(request)


def shown(device: DeviceState) -> dict[str, Any]:
    """A device as the control API shows it."""
    spec = device.spec
    at_google = {"amapiName": spec.amapi.name} if spec.amapi is not None else {}
    return {
        "deviceId": spec.device_id,
        "name": spec.name,
        "platform": spec.platform,
        "provider": spec.provider,
        "apps": spec.apps,
        **at_google,
        "online": device.online,
        "latencyMs": device.latency_ms,
        "outcome": {
            "result": device.outcome.result,
            "errorCode": device.outcome.error_code,
            "cancel": device.outcome.cancel,
            "statuses": device.outcome.statuses,
        },
    }


def _on_error(_request: Request, error: Exception) -> Reply:
    if isinstance(error, UnknownDeviceError):
        return Reply({"error": str(error)}, 404)
    if isinstance(error, FaultError | FleetError | ValueError):
        return Reply({"error": str(error)}, 400)
    raise error


def _no_route(request: Request, path_exists: bool) -> Reply:
    if path_exists:
        return Reply({"error": f"{request.path} does not take {request.method}"}, 405)
    return Reply({"error": f"the control API has no {request.path}"}, 404)
