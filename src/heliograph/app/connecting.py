"""From a service account to an enterprise whose devices take commands, in steps that can be repeated.

Each run begins at the first step and finds done what was done before. Nothing that somebody else set up is changed, and
nothing is made at Google twice: an enterprise whose making got no answer is recognised by the list before it.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from heliograph.app import setup
from heliograph.app.google_channel import MAX_PAGES
from heliograph.app.google_reach import administration, paid, reach, stored_credentials
from heliograph.app.listening import ENTERPRISES_TOPIC
from heliograph.app.notification_line import ensure_subscription, ensure_telling, ensure_topic, usual_names
from heliograph.app.services import SECOND, Services
from heliograph.app.steps import Steps, Stopped
from heliograph.domain.devices import Enterprise, Organization
from heliograph.domain.enrollment import SignUp
from heliograph.ports.administration import Administration, Fault, FaultKind, Resource

_SIGN_UP_LIFE_US = 24 * 3600 * SECOND  # Google says nothing; a page that is older is asked for anew


@dataclass(frozen=True, slots=True)
class Wish:
    """What an operator says. `credentials` as the channels checked them; None = those that are stored."""

    credentials: bytes | None = None
    name: str | None = None
    enterprise_token: str | None = None
    display_name: str = ""
    callback_url: str | None = None
    topic: str | None = None
    subscription: str | None = None
    notifications: bool = True
    new_sign_up: bool = False


@dataclass(slots=True)
class Outcome:
    """How far it came. `sign_up_url`: the page that a person has to complete first."""

    steps: Steps = field(default_factory=Steps)
    enterprise: Enterprise | None = None
    sign_up_url: str | None = None
    connected: bool = False


async def connect(s: Services, organization: Organization, wish: Wish) -> Outcome:
    """Go as far as it goes; raises what the store raises."""
    outcome = Outcome()
    try:
        await _Connecting(s, organization, wish, outcome).run()
    except Stopped:
        return outcome
    outcome.connected = True
    return outcome


class _Connecting:
    def __init__(self, s: Services, organization: Organization, wish: Wish, outcome: Outcome) -> None:
        self._s, self._organization, self._wish = s, organization, wish
        self._outcome, self._steps = outcome, outcome.steps
        self._work = s.store.unit_of_work(organization.id)

    async def run(self) -> None:
        known = await self._known()
        credentials, api_url = self._credentials(known), None if known is None else known.api_url
        async with administration(self._s, credentials, api_url, self._steps) as admin:
            await reach(self._s, admin, self._steps)
            if known is None and self._wish.name is None:
                known = await self._of_project(admin)
            name = known.name if known is not None else self._wish.name
            if name is None:
                name = await self._made(admin, api_url)
            resource = await self._read(admin, name)
            enterprise = await self._store(name, {"credentials": self._wish.credentials})
            await self._work.enrollment.drop_sign_up(admin.project)
            await self._listen(admin, enterprise, resource)

    async def _known(self) -> Enterprise | None:
        """The enterprise that is connected already: the named one, or without credentials the only one."""
        connected = [e for e in await self._work.setup.enterprises() if e.platform == "android"]
        if self._wish.name is not None:
            return next((e for e in connected if e.name == self._wish.name), None)
        return connected[0] if len(connected) == 1 and self._wish.credentials is None else None

    def _credentials(self, known: Enterprise | None) -> bytes:
        if self._wish.credentials is not None:
            return self._wish.credentials
        if known is None:
            self._steps.fail("credentials", "none were given", "pass the key file with --credentials FILE")
        return stored_credentials(self._s, known, self._steps)

    async def _of_project(self, admin: Administration) -> Enterprise | None:
        """The enterprise that this project was connected with before, so that the same call can be repeated."""
        if self._wish.new_sign_up or await self._work.enrollment.sign_up(admin.project) is not None:
            return None
        found = []
        for enterprise in await self._work.setup.enterprises():
            channel = await self._s.channels.channel(self._organization.id, enterprise.id)
            if channel is not None and channel.project == admin.payer:
                found.append(enterprise)
        if len(found) > 1:
            names = ", ".join(e.name for e in found)
            self._steps.fail(
                "enterprise",
                f"several are connected with project {admin.project}: {names}",
                "name the one that is meant, or begin another with --new-sign-up",
            )
        return found[0] if found else None

    async def _made(self, admin: Administration, api_url: str | None) -> str:
        """The name of the enterprise that a sign-up becomes."""
        token = self._wish.enterprise_token
        pending = await self._work.enrollment.sign_up(admin.project)
        if token is not None and pending is None:
            self._steps.fail(
                "sign-up",
                "no sign-up is under way, so the token belongs to none",
                "begin without --enterprise-token: the sign-up page gives out the token",
            )
        if pending is None or (token is None and self._is_stale(pending)):
            pending = await self._begun(admin, api_url)
        self._outcome.sign_up_url = pending.url
        listed = await self._listed(admin)
        if pending.listed is not None and (found := await self._appeared(pending, listed)) is not None:
            self._steps.ok("enterprise", f"{found} was made before")
            return found
        if token is None:
            self._steps.wait(
                "sign-up",
                pending.url,
                "open the page, sign up, and pass the token that it ends with: --enterprise-token TOKEN",
            )
        return await self._create(admin, pending, token, [str(e["name"]) for e in listed])

    async def _listed(self, admin: Administration) -> list[Resource]:
        """The project's enterprises, each page for a token of the quota."""
        found: list[Resource] = []
        asked: set[str] = set()
        page_token = ""
        while True:
            if page_token in asked or len(asked) == MAX_PAGES:
                self._steps.fault("project", Fault(FaultKind.UNREACHABLE, "the list of enterprises does not end"))
            asked.add(page_token)
            page = await paid(self._s, admin, partial(admin.enterprises.page, page_token))
            if isinstance(page, Fault):
                self._steps.fault("project", page)
            found += page.items
            page_token = page.next_token
            if not page_token:
                return found

    def _is_stale(self, pending: SignUp) -> bool:
        """Never one from which an enterprise may have been made already."""
        if pending.listed is not None:
            return False
        return self._wish.new_sign_up or self._s.clock.now() - pending.created_at > _SIGN_UP_LIFE_US

    async def _begun(self, admin: Administration, api_url: str | None) -> SignUp:
        callback = self._wish.callback_url or self._s.channels.usual_callback(api_url)
        page = await paid(self._s, admin, partial(admin.enterprises.sign_up, callback))
        if isinstance(page, Fault):
            self._steps.fault("sign-up", page)
        sign_up = SignUp(
            self._s.new_id(),
            self._organization.id,
            admin.project,
            str(page["name"]),
            str(page["url"]),
            self._s.clock.now(),
        )
        await self._work.enrollment.save_sign_up(sign_up)
        return sign_up

    async def _appeared(self, pending: SignUp, listed: list[Resource]) -> str | None:
        """The enterprise that came to be since the first attempt to make one, and is not another organization's."""
        new = {str(e["name"]) for e in listed} - {*(pending.listed or ())}
        is_alone = not new or await self._is_alone(pending)
        # Read after that: who has made one is at it until it is stored.
        names = sorted(new - {e.name for e in await self._s.store.directory.enterprises()})
        if len(names) > 1:
            self._steps.fail("enterprise", f"several are new: {', '.join(names)}", "name the one that is meant")
        if names and not is_alone:
            self._steps.fail(
                "enterprise",
                f"{names[0]} is new, and may be that of another organization, which makes one in this project too",
                "run it again when that is connected, or name it if it is the one that is meant",
            )
        return names[0] if names else None

    async def _is_alone(self, pending: SignUp) -> bool:
        """Whether no other organization here may have made an enterprise in the project that is not stored yet."""
        for organization in await self._s.store.directory.organizations():
            if organization.id == pending.organization_id:
                continue
            other = await self._s.store.unit_of_work(organization.id).enrollment.sign_up(pending.project)
            if other is not None and other.listed is not None:
                return False
        return True

    async def _create(self, admin: Administration, pending: SignUp, token: str, listed: list[str]) -> str:
        attempted = pending if pending.listed is not None else replace(pending, listed=tuple(listed))
        await self._work.enrollment.save_sign_up(attempted)
        make = partial(admin.enterprises.create, pending.name, token, self._wish.display_name)
        made = await paid(self._s, admin, make)
        if isinstance(made, Fault):
            if made.kind is not FaultKind.UNREACHABLE:  # an answer: this attempt made nothing
                await self._work.enrollment.save_sign_up(pending)
            if made.kind in (FaultKind.REFUSED, FaultKind.MISSING):
                self._steps.fail(
                    "enterprise",
                    made.reason,
                    f"is the token the one that this page ended with: {pending.url} (for another page: --new-sign-up)",
                )
            self._steps.fault("enterprise", made)
        self._steps.done("enterprise", f"{made['name']} was made")
        return str(made["name"])

    async def _read(self, admin: Administration, name: str) -> Resource:
        resource = await paid(self._s, admin, partial(admin.enterprises.get, name))
        if isinstance(resource, Fault):
            self._steps.fault("enterprise", resource)
        display_name = resource.get("enterpriseDisplayName")
        shown = f" ({display_name[:100]})" if isinstance(display_name, str) and display_name else ""
        self._steps.ok("project", f"{admin.project} may manage {name}{shown}")
        return resource

    async def _store(self, name: str, said: dict[str, Any]) -> Enterprise:
        enterprise = await setup.add_enterprise(self._s, self._organization, name, said)
        self._s.wakeups.notify([ENTERPRISES_TOPIC])
        self._outcome.enterprise = enterprise
        return enterprise

    async def _listen(self, admin: Administration, enterprise: Enterprise, resource: Resource) -> None:
        if not self._wish.notifications:
            self._steps.ok("notifications", "left out: results come by asking")
            return
        if enterprise.push_audience and not self._wish.subscription:
            self._steps.ok("notifications", "are pushed to this server already")
            return
        usual_topic, usual_subscription = usual_names(admin.project, enterprise.name)
        present = str(resource.get("pubsubTopic") or "")
        topic = self._wish.topic or present or usual_topic
        if topic in (self._wish.topic, usual_topic):
            await ensure_topic(admin, topic, self._steps)
        else:
            self._steps.ok("topic", f"{topic}, which the enterprise tells on already; it is left as it is")
        subscription = self._wish.subscription or enterprise.subscription or usual_subscription
        await ensure_subscription(admin, subscription, topic, self._steps)
        await ensure_telling(self._s, admin, resource, enterprise.name, topic, self._steps)
        await self._store(enterprise.name, {"subscription": subscription})
