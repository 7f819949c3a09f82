"""Setting up an enterprise at Google, over REST: `ports.administration` on AMAPI and Pub/Sub.

Contracts: the discovery documents of androidmanagement (revision 20261104) and of pubsub v1. What an error means
follows from its status; `SERVICE_DISABLED` is google.rpc.ErrorInfo's reason for an API that is not enabled.
"""

import re
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from heliograph.channels.amapi_answers import error_of
from heliograph.domain.command_types import redact
from heliograph.outbound import Exchange, NoReply, NotSent, Outbound, Reply
from heliograph.outbound.google import NoToken, TokenSource, payer_of
from heliograph.ports.administration import Fault, FaultKind, Page, Resource

# Google's own page for those who have no web server: it shows the enterprise token. From its quickstart.
CALLBACK_PAGE = "https://storage.googleapis.com/android-management-quick-start/enterprise_signup_callback.html"

_ANSWER_S = 10.0
_MAX_REASON = 300
_PAGE_SIZE = "100"
_KINDS = {
    400: FaultKind.REFUSED,
    401: FaultKind.NO_TOKEN,
    403: FaultKind.FORBIDDEN,
    404: FaultKind.MISSING,
    409: FaultKind.EXISTS,
    429: FaultKind.QUOTA,
}
_DISABLED_TEXTS = ("has not been used in project", "it is disabled")


class _Line:
    """Authorised requests to one API."""

    def __init__(self, base_url: str, tokens: TokenSource) -> None:
        self._http, self._tokens = Outbound(base_url.rstrip("/")), tokens

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        secret: str = "",
    ) -> Resource | Fault:
        """One request; `secret` is kept out of what is said about a fault."""
        token = await self._tokens.token(deadline_s=_ANSWER_S)
        if isinstance(token, NoToken):
            return no_token(token)
        headers = {"Authorization": f"Bearer {token}"}
        reply = await self._http.exchange(
            method, "/v1/" + path, deadline_s=_ANSWER_S, params=params, headers=headers, json=json
        )
        return _read(reply, [secret] if secret else [])

    async def time_s(self) -> float | Fault:
        reply = await self._http.exchange("GET", "/", deadline_s=_ANSWER_S)
        if not isinstance(reply, Reply):
            return Fault(FaultKind.UNREACHABLE, reply.reason)
        if reply.at_s is None:
            return Fault(FaultKind.UNREACHABLE, f"the answer ({reply.status}) has no Date header: is it Google's?")
        return reply.at_s

    async def close(self) -> None:
        await self._http.close()


def no_token(answer: NoToken) -> Fault:
    """Why there is no access token, as a fault: one that Google refuses is not one that cannot be asked for."""
    kind = FaultKind.NO_TOKEN if answer.refused else FaultKind.UNREACHABLE
    return Fault(kind, answer.reason, answer.after_s)


def _read(reply: Exchange, secrets: Sequence[str]) -> Resource | Fault:
    if isinstance(reply, NotSent | NoReply):
        return Fault(FaultKind.UNREACHABLE, reply.reason)
    if 200 <= reply.status < 300:
        body = reply.json()
        return Fault(FaultKind.UNREACHABLE, f"{reply.status} without a JSON object") if body is None else body
    error = error_of(reply)
    if error is None:
        return Fault(FaultKind.UNREACHABLE, f"{reply.status}, but not from the API: is the base address right?")
    said = redact(error[1], secrets)[:_MAX_REASON]
    reason = f"Google answered {reply.status}: {said}" if said else f"Google answered {reply.status}"
    return Fault(_kind(reply, error[1]), reason, reply.after_s)


def _kind(reply: Reply, message: str) -> FaultKind:
    if reply.status == 403 and (_names_disabled(reply) or any(text in message for text in _DISABLED_TEXTS)):
        return FaultKind.DISABLED
    return _KINDS.get(reply.status, FaultKind.UNREACHABLE)


def _names_disabled(reply: Reply) -> bool:
    details = (reply.json() or {}).get("error", {}).get("details")
    reasons = [d.get("reason") for d in details if isinstance(d, dict)] if isinstance(details, list) else []
    return "SERVICE_DISABLED" in reasons


class Enterprises:
    """Implements ports.administration.EnterpriseDesk."""

    def __init__(self, line: _Line, project: str) -> None:
        self._line, self._project = line, project

    async def sign_up(self, callback_url: str | None) -> Resource | Fault:
        """A new sign-up URL."""
        query = {"projectId": self._project} | ({"callbackUrl": callback_url} if callback_url else {})
        answer = await self._line.ask("POST", "signupUrls", params=query)
        return _with_texts(answer, "name", "url")

    async def create(self, sign_up: str, token: str, display_name: str) -> Resource | Fault:
        """The enterprise of a completed sign-up."""
        query = {"projectId": self._project, "signupUrlName": sign_up, "enterpriseToken": token}
        body = {"enterpriseDisplayName": display_name} if display_name else {}
        answer = await self._line.ask("POST", "enterprises", params=query, json=body, secret=token)
        return _with_texts(answer, "name")

    async def page(self, page_token: str) -> Page | Fault:
        """A page of the project's enterprises."""
        query = {"projectId": self._project, "pageSize": _PAGE_SIZE} | ({"pageToken": page_token} if page_token else {})
        page = await self._line.ask("GET", "enterprises", params=query)
        if isinstance(page, Fault):
            return page
        listed, next_token = page.get("enterprises", []), page.get("nextPageToken", "")
        are_named = isinstance(listed, list) and all(isinstance(e, dict) and _text(e, "name") for e in listed)
        if not are_named or not isinstance(next_token, str):
            return Fault(FaultKind.UNREACHABLE, "an answer that is no list of enterprises")
        return Page(listed, next_token)

    async def get(self, name: str) -> Resource | Fault:
        """One enterprise."""
        return await self._line.ask("GET", quote(name, safe="/"))

    async def notify(self, name: str, topic: str, kinds: Sequence[str]) -> Resource | Fault:
        """Name topic and kinds of notifications; nothing else is changed."""
        mask = {"updateMask": "pubsubTopic,enabledNotificationTypes"}
        body = {"pubsubTopic": topic, "enabledNotificationTypes": [*kinds]}
        return await self._line.ask("PATCH", quote(name, safe="/"), params=mask, json=body)

    async def enroll(self, name: str, token: Resource) -> Resource | Fault:
        """A new enrollment token."""
        answer = await self._line.ask("POST", f"{quote(name, safe='/')}/enrollmentTokens", json=token)
        return _with_texts(answer, "name", "value")


class Topics:
    """Implements ports.administration.TopicDesk."""

    def __init__(self, line: _Line) -> None:
        self._line = line

    async def get(self, name: str) -> Resource | Fault:
        """A topic or a subscription."""
        return await self._line.ask("GET", _escaped(name))

    async def create(self, name: str, resource: Resource) -> Resource | Fault:
        """A new topic or subscription."""
        return await self._line.ask("PUT", _escaped(name), json=resource)

    async def never_expire(self, subscription: str) -> Resource | Fault:
        """An empty policy of expiration is one without an end."""
        body = {"subscription": {"name": subscription, "expirationPolicy": {}}, "updateMask": "expirationPolicy"}
        return await self._line.ask("PATCH", _escaped(subscription), json=body)

    async def policy(self, topic: str) -> Resource | Fault:
        """A topic's policy, with its etag. Below version 3 it would lack conditions, and could not be set again."""
        version = {"options.requestedPolicyVersion": "3"}
        return await self._line.ask("GET", f"{_escaped(topic)}:getIamPolicy", params=version)

    async def set_policy(self, topic: str, policy: Resource) -> Resource | Fault:
        """Replace a topic's policy, if it is still the one of the etag."""
        return await self._line.ask("POST", f"{_escaped(topic)}:setIamPolicy", json={"policy": policy})

    async def publish_test(self, topic: str) -> Resource | Fault:
        """A TEST without data, as Google's own are."""
        body = {"messages": [{"attributes": {"notificationType": "TEST"}}]}
        return await self._line.ask("POST", f"{_escaped(topic)}:publish", json=body)


class GoogleAdministration:
    """Implements ports.administration.Administration for one key file (as `read_service_account` gives it)."""

    def __init__(self, account: Mapping[str, Any], amapi_url: str, pubsub_url: str) -> None:
        self.project, self.account = str(account.get("project_id") or ""), str(account["client_email"])
        self.payer = payer_of(account)
        self.token_address = urlsplit(str(account["token_uri"])).netloc
        self._tokens = TokenSource(account, timeout_s=_ANSWER_S)
        self.address, self.proxies = urlsplit(amapi_url).netloc, _proxies()
        self._amapi, self._pubsub = _Line(amapi_url, self._tokens), _Line(pubsub_url, self._tokens)
        self.enterprises, self.topics = Enterprises(self._amapi, self.project), Topics(self._pubsub)

    async def google_time_s(self) -> float | Fault:
        """The Date header of whatever the API answers."""
        return await self._amapi.time_s()

    async def authorise(self) -> Fault | None:
        """Get an access token."""
        token = await self._tokens.token(deadline_s=_ANSWER_S)
        return no_token(token) if isinstance(token, NoToken) else None

    async def close(self) -> None:
        """Let go of connections."""
        await self._tokens.close()
        await self._amapi.close()
        await self._pubsub.close()


def _proxies() -> list[str]:
    """The proxies that this process's environment names, without a user name and password in them."""
    found = []
    for scheme, address in sorted(urllib.request.getproxies().items()):
        if scheme in ("http", "https", "all"):
            found.append(f"{scheme}: {urlsplit(address).hostname or 'an address that cannot be read'}")
    return found


def _with_texts(answer: Resource | Fault, *members: str) -> Resource | Fault:
    """The answer, if it has what it is about: it was carried out all the same."""
    if isinstance(answer, Fault) or all(_text(answer, member) for member in members):
        return answer
    return Fault(FaultKind.UNREACHABLE, f"an answer without {' and '.join(members)}")


def _text(resource: Resource, member: str) -> str:
    """A member that is text without blanks, as all names, tokens and addresses of Google's are."""
    value = resource.get(member)
    return value if isinstance(value, str) and re.fullmatch(r"[\x21-\x7e]{1,4096}", value) else ""


def _escaped(name: str) -> str:
    return quote(name, safe="/")
