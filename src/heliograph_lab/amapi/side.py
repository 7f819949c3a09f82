"""The emulator's part of the control API: what a phone or an operator does, and Google's API cannot."""

from heliograph_lab.amapi.emulator import AmapiEmulator
from heliograph_lab.control import shown
from heliograph_lab.web import Reply, Request, Router


def add_routes(router: Router, emulator: AmapiEmulator) -> None:
    """Enrolment, and what has become of the quota."""

    async def enrol(request: Request) -> Reply:
        device, _ = await emulator.enrolment.enrol(request.json())
        return Reply(shown(device))

    async def quota(_request: Request) -> Reply:
        return Reply(emulator.quota.shown())

    router.add("POST", "/devices", enrol)
    router.add("GET", "/quota", quota)
