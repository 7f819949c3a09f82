"""Sign-up URLs: the page behind one stands in for Google's form, and answers with an enterprise token."""

import asyncio
import secrets
from html import escape
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import msgspec

from heliograph_lab.amapi.errors import ApiError, Violations
from heliograph_lab.kernel import Kernel

_NAMESPACE = "amapi.signups"
PATH = "/signup/"
_MOST = 10_000
_LONGEST_URL = 2000
_LONGEST_PROJECT = 100


class Signup(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One sign-up: what it was asked for with, and the token that its page has given out."""

    number: int
    project: str = ""
    callback_url: str = ""
    token: str = ""


class Signups:
    """All sign-ups that no enterprise was made from yet; the oldest make room."""

    def __init__(self, kernel: Kernel) -> None:
        self._state = kernel.state
        stored = kernel.state.all(_NAMESPACE)
        found = {key: msgspec.convert(value, Signup) for key, value in stored.items()}
        self._lock = asyncio.Lock()
        self._signups = dict(sorted(found.items(), key=lambda item: item[1].number))

    async def create(self, query: dict[str, Any], origin: str) -> dict[str, Any]:
        """signupUrls.create."""
        project, callback = query.get("projectId", ""), query.get("callbackUrl", "")
        _check(project, callback, query.get("adminEmail", ""), query.get("allowedDomains", []))
        key = secrets.token_hex(16)
        number = 1 + max((signup.number for signup in self._signups.values()), default=0)
        signup = Signup(number=number, project=project, callback_url=callback)
        old = list(self._signups)[: max(0, len(self._signups) + 1 - _MOST)]
        await self._state.put_many([(_NAMESPACE, key, signup)], deletes=[(_NAMESPACE, gone) for gone in old])
        for gone in old:
            self._signups.pop(gone, None)
        self._signups[key] = signup
        return {"name": f"signupUrls/{key}", "url": f"{origin}{PATH}{key}"}

    async def visit(self, key: str) -> tuple[int, str, bytes]:
        """What the admin's browser gets at the sign-up URL: status, where to go next, and a page."""
        async with self._lock:
            signup = await self._signed_up(key)
        if signup is None:
            return 404, "", _page("There is no such sign-up, or an enterprise was made from it already.")
        if not signup.callback_url:
            return 200, "", _page(f"The enterprise token is {signup.token}.")
        target = _with_token(signup.callback_url, signup.token)
        return 302, target, _page(f'Signed up. <a href="{escape(target)}">Go on</a>.')

    def require(self, name: str, token: str, project: str) -> tuple[str, str]:
        """Check what enterprises.create names; returns the key that has to go from disk. 400 unless all agree."""
        key = name.removeprefix("signupUrls/")
        signup = self._signups.get(key)
        if signup is None or not signup.token or signup.token != token or signup.project != project:
            raise ApiError(400, "The signup URL, the enterprise token and the project do not belong together.")
        return _NAMESPACE, key

    def forget(self, key: str) -> None:
        """An enterprise was made from it."""
        self._signups.pop(key, None)

    async def _signed_up(self, key: str) -> Signup | None:
        signup = self._signups.get(key)
        if signup is not None and not signup.token:
            signup = msgspec.structs.replace(signup, token=f"E{secrets.token_hex(16)}")
            await self._state.put(_NAMESPACE, key, signup)
            self._signups[key] = signup
        return signup


def _check(project: str, callback: str, email: str, domains: list[str]) -> None:
    found = Violations()
    if not project or len(project) > _LONGEST_PROJECT:
        found.add("project_id", "A project ID must be given.")
    if callback and not _is_web_address(callback):
        found.add("callback_url", "The callback URL must be an absolute URL of http or https.")
    if email and domains and not any(_allows(domain, email.rpartition("@")[2]) for domain in domains):
        found.add("admin_email", "The admin email does not belong to one of the allowed domains.")
    found.raise_if_any()


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return len(url) <= _LONGEST_URL and parts.scheme in {"http", "https"} and bool(parts.hostname)


def _allows(domain: str, host: str) -> bool:
    if domain.startswith("*."):
        return host.lower().endswith(domain[1:].lower())
    return host.lower() == domain.lower()


def _with_token(url: str, token: str) -> str:
    parts = urlsplit(url)
    query = [*parse_qsl(parts.query, keep_blank_values=True), ("enterpriseToken", token)]
    # No byte beyond ASCII, and no line end, may reach the header.
    return quote(parts._replace(query=urlencode(query)).geturl(), safe=":/?#[]@!$&'()*+,;=%~-._")


def _page(text: str) -> bytes:
    return f"<!DOCTYPE html>\n<meta charset=utf-8>\n<title>Sign-up in the lab</title>\n<p>{text}</p>\n".encode()
