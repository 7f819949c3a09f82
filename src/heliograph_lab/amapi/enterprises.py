"""Enterprises: those that were made through the API, and those that the fleet's devices or a setting name."""

import asyncio
import re
import secrets
from typing import Any

import msgspec

from heliograph_lab.amapi.discovery import field_names, snake
from heliograph_lab.amapi.errors import ApiError, Unmodelled, Violations
from heliograph_lab.amapi.settings import EmulatorSettings
from heliograph_lab.amapi.signup import Signups
from heliograph_lab.amapi.validate import output_only, parse_message, without_defaults
from heliograph_lab.fleet import Fleet
from heliograph_lab.kernel import Kernel

_NAMESPACE = "amapi.enterprises"
_TOPIC = re.compile(r"projects/[a-z0-9.:-]{1,100}/topics/[A-Za-z][\w.~+%-]{2,254}", re.ASCII)
_LONGEST_NAME = 100
_MOST = 1000
_READ_ONLY = {"name"} | {name for name in field_names("Enterprise").values() if output_only("Enterprise", name)}


class Held(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """What is on disk of an enterprise. One of no project is listed in all; one without kind was not created here."""

    project: str = ""
    kind: str = ""
    fields: dict[str, Any] = {}
    deleted: bool = False


class Enterprises:
    """Answers the API's questions about enterprises."""

    def __init__(self, kernel: Kernel, fleet: Fleet, signups: Signups, settings: EmulatorSettings) -> None:
        self._state = kernel.state
        self._fleet = fleet
        self._signups = signups
        self._settings = settings
        stored = kernel.state.all(_NAMESPACE)
        self._held = {name: msgspec.convert(value, Held) for name, value in stored.items()}
        self._lock = asyncio.Lock()

    def names(self, project: str | None = None) -> list[str]:
        """All names, sorted, or those of one project. An enterprise stays when its last device goes."""
        names = {d.spec.amapi.name.partition("/devices/")[0] for d in self._fleet.devices() if d.spec.amapi}
        known = names.union(self._settings.enterprises, self._held)
        return sorted(name for name in known if self._is_there(name, project))

    def require(self, name: str) -> None:
        """403 for an enterprise of somebody else, or of nobody: Google does not tell which."""
        if name not in self.names():
            raise ApiError(403)

    def may_manage(self, project: str, name: str) -> bool:
        """Whether a project may use an enterprise: one that was made here belongs to the project that made it."""
        return self._held.get(name, Held()).project in {"", project}

    def deleted(self, name: str) -> bool:
        """Whether it was there once."""
        held = self._held.get(name)
        return held is not None and held.deleted

    def resource(self, name: str) -> dict[str, Any]:
        """The Enterprise as the API shows it."""
        held = self._held.get(name, Held())
        shown = {"name": name, "enterpriseDisplayName": "Heliograph lab", **held.fields}
        shown["enterpriseType"] = "MANAGED_GOOGLE_PLAY_ACCOUNTS_ENTERPRISE"
        shown["managedGooglePlayAccountsEnterpriseType"] = held.kind or "CUSTOMER_MANAGED"
        return without_defaults("Enterprise", shown)

    def basic(self, name: str) -> dict[str, Any]:
        """The little that enterprises.list shows."""
        whole = self.resource(name)
        return {key: whole[key] for key in ("name", "enterpriseDisplayName") if key in whole}

    def may_be_deleted(self, name: str) -> bool:
        """Whether it is one of those that Google lets its EMM delete."""
        return self._held.get(name, Held()).kind == "EMM_MANAGED"

    async def create(self, body: Any, query: dict[str, Any]) -> dict[str, Any]:
        """enterprises.create, for both kinds of enterprise."""
        fields = _parsed(body, None, {})
        async with self._lock:
            held, deletes = self._made(fields, query)
            if sum(not item.deleted for item in self._held.values()) >= _MOST:
                raise ApiError(429, f"The lab holds no more than {_MOST} enterprises.")
            name = f"enterprises/LC{secrets.token_hex(4)}"
            await self._state.put_many([(_NAMESPACE, name, held)], deletes=deletes)
            self._held[name] = held
            for _, key in deletes:
                self._signups.forget(key)
        return self.resource(name)

    async def patch(self, name: str, body: Any, mask: str | None) -> dict[str, Any]:
        """enterprises.patch."""
        async with self._lock:
            self.require(name)
            before = self._held.get(name, Held())
            after = msgspec.structs.replace(before, fields=_parsed(body, mask, before.fields))
            await self._state.put(_NAMESPACE, name, after)
            self._held[name] = after
        return self.resource(name)

    async def delete(self, name: str) -> None:
        """Forget it; its devices and tokens are the caller's business."""
        async with self._lock:
            self.require(name)
            gone = Held(deleted=True)
            await self._state.put(_NAMESPACE, name, gone)
            self._held[name] = gone

    def _is_there(self, name: str, project: str | None) -> bool:
        held = self._held.get(name, Held())
        return not held.deleted and (project is None or held.project in {"", project})

    def _made(self, fields: dict[str, Any], query: dict[str, Any]) -> tuple[Held, list[tuple[str, str]]]:
        project = query.get("projectId", "")
        if not project:
            raise ApiError(400, "A project ID must be given.")
        signup, token = query.get("signupUrlName", ""), query.get("enterpriseToken", "")
        if signup or token:
            if query.get("agreementAccepted"):
                raise ApiError(400, "agreement_accepted must not be set for a customer-managed enterprise.")
            key = self._signups.require(signup, token, project)
            return Held(project=project, kind="CUSTOMER_MANAGED", fields=fields), [key]
        if not query.get("agreementAccepted"):
            raise ApiError(400, "Either a signup URL name and an enterprise token, or the agreement, must be given.")
        if not fields.get("contactInfo", {}).get("contactEmail") or not fields.get("enterpriseDisplayName"):
            raise ApiError(400, "An EMM-managed enterprise needs a display name and a contact email.")
        return Held(project=project, kind="EMM_MANAGED", fields=fields), []


def _parsed(body: Any, mask: str | None, before: dict[str, Any]) -> dict[str, Any]:
    found = Violations()
    given = parse_message("Enterprise", body, found)
    found.raise_if_any()
    fields = _masked(mask, given)
    if "signinDetails" in fields and given.get("signinDetails"):
        raise Unmodelled("signinDetails")
    _check({name: given[name] for name in fields if name in given}, found)
    kept = {name: value for name, value in before.items() if name not in fields}
    return without_defaults("Enterprise", kept | {name: given[name] for name in fields if name in given})


def _masked(mask: str | None, given: dict[str, Any]) -> set[str]:
    if not mask:
        return set(given) - _READ_ONLY  # a client may send back all that it has read
    names = field_names("Enterprise")
    fields = {names.get(path.strip(), path.strip()) for path in mask.split(",")}
    found = Violations()
    for name in sorted(fields - (set(names.values()) - _READ_ONLY)):
        found.add("update_mask", f"Field '{name}' cannot be updated.")
    found.raise_if_any()
    return fields


def _check(fields: dict[str, Any], found: Violations) -> None:
    topic = fields.get("pubsubTopic", "")
    if topic and _TOPIC.fullmatch(topic) is None:
        found.add("pubsub_topic", "The topic must have the form projects/{project}/topics/{topic}.")
    if len(fields.get("enterpriseDisplayName", "")) > _LONGEST_NAME:
        found.add(snake("enterpriseDisplayName"), f"The name is longer than {_LONGEST_NAME} characters.")
    colour = fields.get("primaryColor", 0)
    if not 0 <= colour <= 0xFFFFFF:
        found.add("primary_color", "The color must be between 0 and 16777215.")
    found.raise_if_any()
