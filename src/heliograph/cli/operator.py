"""Set-up verbs, wherever they are carried out: over HTTP, by the server on a data directory, or right here."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from heliograph.cli.exits import ExitCode, Failure, usage
from heliograph.cli.options import Setup
from heliograph.cli.signals import heard_at_once
from heliograph.cli.target import Http, OnDatabase, demo_plan, for_setup
from heliograph.domain.errors import NotFound

if TYPE_CHECKING:
    from heliograph.cli.client import Api

T = TypeVar("T")
Json = dict[str, Any]
_NO_ENTITY = 3001
_UNBOUND = ("organization.create", "organization.list")
_REPEATABLE = (
    "organization.list",
    "key.list",
    "key.revoke",
    "enterprise.list",
    "enterprise.connect",
    "enterprise.check",
    "enrollmentToken.list",
    "provider.list",
    "provider.test",
)


class Verbs(Protocol):
    """Carries out set-up verbs."""

    async def call(self, verb: str, body: Json, organization: str | None = None) -> Json:
        """The verb's answer; without `organization` in the one that was chosen. Raises Failure or HeliographError."""
        ...

    async def organizations(self) -> list[Json]:
        """Every organization that the caller may work in."""
        ...


def run_verbs(given: Setup, work: Callable[[Verbs], Awaitable[T]], *, may_found: bool = False) -> T:
    """Run `work` with the verbs of the place that the options name; `may_found`: where nothing is, begin anew."""

    async def main() -> T:
        async with _open(for_setup(given), may_found) as verbs:
            return await work(verbs)

    return asyncio.run(main())


def call_verb(given: Setup, verb: str, body: Json) -> Json:
    """Carry out one verb in the chosen organization."""
    return run_verbs(given, lambda verbs: verbs.call(verb, body), may_found=verb == "organization.create")


def call_on(given: Setup, verb: str, body: Json, missing: str) -> Json:
    """Carry out a verb on something that exists; `missing` is what to say, and where to look, when it does not."""
    try:
        return call_verb(given, verb, body)
    except NotFound as error:
        if str(error) != str(NotFound()):  # something else, such as the organization, and it says so
            raise
        raise Failure(ExitCode.NOT_FOUND, missing, code=error.code) from None
    except Failure as failure:
        if failure.exit_code is not ExitCode.NOT_FOUND or failure.code != _NO_ENTITY:
            raise
        raise Failure(
            ExitCode.NOT_FOUND, f"{missing} (or the organization is not this key's)", code=_NO_ENTITY
        ) from None


@asynccontextmanager
async def _open(target: Http | OnDatabase, may_found: bool) -> AsyncIterator[Verbs]:
    if isinstance(target, Http):
        from heliograph.cli.client import open_api

        with heard_at_once(), open_api(target) as api:
            yield _OverHttp(api)
        return
    from heliograph.cli.local import open_database

    async with open_database(target, may_found=may_found) as ask:
        yield _OnDatabase(ask, target)


class _OverHttp:
    """Its calls block: nothing else runs meanwhile."""

    def __init__(self, api: "Api") -> None:
        self._api = api

    async def call(self, verb: str, body: Json, organization: str | None = None) -> Json:
        path = self._api.in_organization("setup", verb)
        if verb == "organization.feature" and organization is not None:
            body = {**body, "organization": organization}
        return self._api.post(path, body, "", again=verb in _REPEATABLE)

    async def organizations(self) -> list[Json]:
        return [{"id": self._api.organization()}]


Ask = Callable[[str, str | None, Json], Awaitable[Json]]


class _OnDatabase:
    """As the operator: any organization, so one has to be named unless there is only one."""

    def __init__(self, ask: Ask, target: OnDatabase) -> None:
        self._ask, self._target = ask, target
        self._organization = target.organization

    async def call(self, verb: str, body: Json, organization: str | None = None) -> Json:
        if verb in _UNBOUND:
            return await self._ask(verb, None, body)
        return await self._ask(verb, organization or await self._chosen(), body)

    async def organizations(self) -> list[Json]:
        if self._organization is not None:
            return [{"id": self._organization}]
        items: list[Json] = (await self._ask("organization.list", None, {}))["items"]
        return items

    async def _chosen(self) -> str:
        if self._organization is None:
            known = [str(item["slug"]) for item in await self.organizations()]
            demo = (demo_plan(self._target.data_dir) or {}).get("organization", {}).get("slug")
            if len(known) != 1 and demo not in known:
                raise usage(_which(known))
            self._organization = known[0] if len(known) == 1 else str(demo)
        return self._organization


def _which(known: list[str]) -> str:
    if not known:
        return "there is no organization yet: heliograph org create SLUG"
    more = ", …" if len(known) > 10 else ""
    return f"say in which organization: --org {'|'.join(known[:10])}{more}"
