"""The organization that a key belongs to."""

from heliograph.http.operations import Call, Operation
from heliograph.http.paths import ORGANIZATION
from heliograph.http.wire import OrganizationView, organization_view


async def get(call: Call) -> OrganizationView:
    return organization_view(call.organization)


OPERATIONS = (
    Operation(
        method="GET",
        path=ORGANIZATION,
        id="getOrganization",
        summary="The organization, by id or slug",
        tag="Organizations",
        permission="base.organization.get",
        answer=OrganizationView,
        handler=get,
        extension=True,
    ),
)
