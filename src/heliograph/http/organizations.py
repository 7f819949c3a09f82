"""The organization that a key belongs to."""

from heliograph.http.operations import Call, Operation
from heliograph.http.pages import page_with
from heliograph.http.paths import ORGANIZATION, ORGANIZATIONS
from heliograph.http.wire import OrganizationView, PageOf, organization_view


async def list_own(call: Call) -> PageOf[OrganizationView]:
    """A key sees one organization, its own; so a client can ask which that is."""
    items = [organization_view(call.organization)] if call.query.page.page == 1 else []
    return page_with(call, 1, items)


async def get(call: Call) -> OrganizationView:
    return organization_view(call.organization)


OPERATIONS = (
    Operation(
        method="GET",
        path=ORGANIZATIONS,
        id="listOrganizations",
        summary="The organization that the key belongs to, as a list of one",
        tag="Organizations",
        permission="base.organization.get",
        answer=PageOf[OrganizationView],
        handler=list_own,
        sorts={"createdAt": "created_at"},
        extension=True,
        refusals=(5209,),
    ),
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
