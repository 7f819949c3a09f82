"""Who asks for something to be set up, and what that one may say."""

from dataclasses import dataclass

from heliograph.app.services import Services
from heliograph.domain.devices import Organization, Principal
from heliograph.domain.fields import Fields
from heliograph.domain.permissions import ADDRESSES_PERMISSION, allows


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, inside which organization. `principal` None = the operator, on the machine itself: all rights."""

    organization: Organization
    principal: Principal | None = None

    @property
    def names_addresses(self) -> bool:
        """Whether this one may say where credentials are sent to."""
        return self.principal is None or allows(self.principal.permissions, ADDRESSES_PERMISSION)


def permit_address(s: Services, body: Fields, path: str, address: str | None) -> None:
    """Note an address that an API key may not name."""
    if address and address.rstrip("/") not in s.limits.addresses:
        body.wrong(path, f"is not an address that this key may name: that takes {ADDRESSES_PERMISSION}")
