"""The first steps towards Google, for setting up and for testing alike: credentials, clock, token, the API."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import urlsplit

from heliograph.app.google_channel import OUT_OF_QUOTA
from heliograph.app.services import SECOND, Services
from heliograph.app.steps import MOST_SKEW_S, WORRYING_SKEW_S, Steps
from heliograph.domain.devices import Enterprise
from heliograph.domain.errors import InvalidInput
from heliograph.ports.administration import Administration, Fault, FaultKind
from heliograph.ports.changes import URGENT

T = TypeVar("T")

_LEAD_TO_LAB = (
    "start the server again from a shell that leads to the lab, which is what this does: "
    'eval "$(heliograph lab credentials FILE)" (up --demo needs none of that); or pass a key file of Google\'s'
)
_START_LAB = (
    "that address is on this machine: is the lab up (heliograph lab up, or up --demo)? For Google itself, unset "
    "HELIOGRAPH_AMAPI_URL and HELIOGRAPH_PUBSUB_URL and start the server again"
)


def stored_credentials(s: Services, enterprise: Enterprise, steps: Steps) -> bytes:
    """The credentials of a connected enterprise."""
    if enterprise.credentials is None:
        steps.fail("credentials", "none are stored", "pass the key file with --credentials FILE")
    try:
        return s.secrets.open(enterprise.credentials)
    except ValueError as error:
        steps.fail("credentials", f"cannot be opened: {error}", "pass the key file again with --credentials FILE")


@asynccontextmanager
async def administration(
    s: Services, credentials: bytes, api_url: str | None, steps: Steps
) -> AsyncIterator[Administration]:
    """All of Google that credentials reach, closed at the end."""
    try:
        admin = s.channels.administration(credentials, api_url)
    except InvalidInput as error:
        steps.fail("credentials", str(error), "pass another key file with --credentials FILE")
    steps.project = admin.project
    try:
        if not admin.project:
            steps.fail("credentials", "the file names no project (project_id)", "download a new key and pass it as is")
        if _is_here(admin.token_address) and not _is_here(admin.address):
            steps.fail("credentials", f"a lab's key, and {admin.address} would be asked with it", _LEAD_TO_LAB)
        steps.ok("credentials", f"{admin.account} of project {admin.project}")
        yield admin
    finally:
        await admin.close()


async def reach(s: Services, admin: Administration, steps: Steps) -> None:
    """Whether Google is there, agrees on the time, and gives an access token."""
    at_s = await admin.google_time_s()
    way = f" (through a proxy, {', '.join(admin.proxies)})" if admin.proxies else ""
    if isinstance(at_s, Fault):
        reason = f"{admin.address} cannot be reached{way}: {at_s.reason}"
        if _is_here(admin.address):
            steps.fail("network", reason, _START_LAB)
        steps.fault("network", Fault(at_s.kind, reason))
    steps.ok("network", f"{admin.address} answers{way}")
    _compare_clocks(s.clock.now() / SECOND - at_s, steps)
    refused = await admin.authorise()
    if refused is not None:
        steps.fault("token", refused)
    steps.ok("token", "Google takes the key")


def _is_here(address: str) -> bool:
    """Whether an address is on this machine, where a lab may listen, and Google never does."""
    host = urlsplit(f"//{address}").hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _compare_clocks(ahead_s: float, steps: Steps) -> None:
    off = f"{abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} Google's"
    advice = "set this machine's clock (NTP); after it was ahead, start the server again"
    if abs(ahead_s) > MOST_SKEW_S:
        steps.fail("clock", f"this machine's clock is {off}, and Google refuses tokens of another time", advice)
    if abs(ahead_s) > WORRYING_SKEW_S:
        steps.warn("clock", f"this machine's clock is {off}", advice)
    else:
        steps.ok("clock", "agrees with Google's")


async def paid(s: Services, admin: Administration, ask: Callable[[], Awaitable[T]]) -> T | Fault:
    """One request to the Android Management API, within the quota of the project that the key has proved."""
    if s.quota is not None:
        unproved = await admin.authorise()
        if unproved is not None:
            return unproved
        if not await s.quota.take(admin.payer, URGENT):
            return Fault(FaultKind.QUOTA, OUT_OF_QUOTA)
    return await ask()
