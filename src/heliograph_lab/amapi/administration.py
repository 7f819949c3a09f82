"""The modelled methods of enterprises, sign-up URLs and enrollment tokens."""

from typing import Any

from heliograph_lab.amapi.calls import Call, answered, page
from heliograph_lab.amapi.devices import Registry, amapi_of
from heliograph_lab.amapi.enterprises import Enterprises
from heliograph_lab.amapi.errors import ApiError
from heliograph_lab.amapi.pages import make_token, page_size, read_token
from heliograph_lab.amapi.settings import EmulatorSettings
from heliograph_lab.amapi.signup import Signups
from heliograph_lab.amapi.tokens import Tokens


class Administration:
    """What comes before the first device."""

    def __init__(
        self, enterprises: Enterprises, signups: Signups, tokens: Tokens, registry: Registry, settings: EmulatorSettings
    ) -> None:
        self._enterprises = enterprises
        self._signups = signups
        self._tokens = tokens
        self._registry = registry
        self._settings = settings

    async def create_signup_url(self, call: Call) -> dict[str, Any]:
        """signupUrls.create."""
        if call.body not in (None, {}):
            raise ApiError(400, "Invalid JSON payload received. signupUrls.create takes no body.")
        return await self._signups.create(call.query, call.origin)

    async def create_enterprise(self, call: Call) -> dict[str, Any]:
        """enterprises.create."""
        return await self._enterprises.create(call.body, call.query)

    async def get_enterprise(self, call: Call) -> dict[str, Any]:
        """enterprises.get."""
        self._enterprises.require(call.name)
        return self._enterprises.resource(call.name)

    async def list_enterprises(self, call: Call) -> dict[str, Any]:
        """enterprises.list, by name."""
        project = call.query.get("projectId", "")
        if not project:
            raise ApiError(400, "A project ID must be given.")
        settings = self._settings
        size = page_size(call.query.get("pageSize"), settings.operations_page, settings.operations_page_max)
        token = call.query.get("pageToken")
        start = read_token(token, "enterprises", project) if token else ""
        names, more = page((name for name in self._enterprises.names(project) if name > start), size)
        reply: dict[str, Any] = {}
        if names:
            reply["enterprises"] = [self._enterprises.basic(name) for name in names]
        if more:
            reply["nextPageToken"] = make_token(names[-1], "enterprises", project)
        return reply

    async def patch_enterprise(self, call: Call) -> dict[str, Any]:
        """enterprises.patch."""
        return await self._enterprises.patch(call.name, call.body, call.query.get("updateMask"))

    async def delete_enterprise(self, call: Call) -> dict[str, Any]:
        """enterprises.delete: its devices and tokens go with it."""
        self._enterprises.require(call.name)
        if not self._enterprises.may_be_deleted(call.name):
            answered(self._settings.delete_customer_managed, "Only EMM-managed enterprises can be deleted.")
        await self._tokens.drop(call.name)
        for device in self._registry.after(call.name, ""):
            await self._registry.drop(amapi_of(device).name)
        await self._enterprises.delete(call.name)  # last: whoever is cut off before that can delete it again
        return {}

    async def create_token(self, call: Call) -> dict[str, Any]:
        """enrollmentTokens.create."""
        self._enterprises.require(call.name)
        return await self._tokens.create(call.name, call.body)

    async def get_token(self, call: Call) -> dict[str, Any]:
        """enrollmentTokens.get."""
        self._enterprises.require(_enterprise(call))
        return self._tokens.require(call.name).partial()

    async def list_tokens(self, call: Call) -> dict[str, Any]:
        """enrollmentTokens.list, oldest first."""
        self._enterprises.require(call.name)
        settings = self._settings
        size = page_size(call.query.get("pageSize"), settings.devices_page, settings.devices_page_max)
        token = call.query.get("pageToken")
        start = int(read_token(token, "tokens", call.name)) if token else 0
        tokens, more = page(iter(self._tokens.after(call.name, start)), size)
        reply: dict[str, Any] = {}
        if tokens:
            reply["enrollmentTokens"] = [item.partial() for item in tokens]
        if more:
            reply["nextPageToken"] = make_token(str(tokens[-1].number), "tokens", call.name)
        return reply

    async def delete_token(self, call: Call) -> dict[str, Any]:
        """enrollmentTokens.delete."""
        self._enterprises.require(_enterprise(call))
        await self._tokens.delete(call.name)
        return {}


def _enterprise(call: Call) -> str:
    return call.name.partition("/enrollmentTokens/")[0]
