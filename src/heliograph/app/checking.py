"""Tests whether an enterprise can be reached and heard. Reads only, but for a test notification if it is wished for."""

from functools import partial

from heliograph.app.google_reach import administration, paid, reach, stored_credentials
from heliograph.app.notification_line import (
    KINDS,
    PUBLISHER,
    PUBLISHER_ROLE,
    expires,
    may_publish,
    other_publishers,
    what_is_wrong,
    what_it_holds_back,
)
from heliograph.app.services import SECOND, Services
from heliograph.app.steps import Steps, Stopped
from heliograph.domain.devices import Enterprise
from heliograph.domain.times import time_text
from heliograph.ports.administration import Administration, Fault, FaultKind, Resource

_AGAIN = "run heliograph enterprise connect {name}, which puts it right"
_SILENT_US = 7 * 24 * 3600 * SECOND  # devices report at least daily


async def check_enterprise(s: Services, enterprise: Enterprise, *, send_test: bool = False) -> Steps:
    """Every step on the way to an enterprise and back, up to the first that fails."""
    steps = Steps()
    try:
        credentials = stored_credentials(s, enterprise, steps)
        async with administration(s, credentials, enterprise.api_url, steps) as admin:
            await reach(s, admin, steps)
            resource = await paid(s, admin, partial(admin.enterprises.get, enterprise.name))
            if isinstance(resource, Fault):
                steps.fault("enterprise", resource)
            steps.ok("enterprise", f"{enterprise.name} can be read")
            _say_quota(s, admin.project, steps)
            await _check_line(admin, enterprise, resource, steps)
            _say_heard(s, enterprise, steps)
            if send_test:
                await _send_test(admin, resource, steps)
    except Stopped:
        pass
    return steps


def _say_quota(s: Services, project: str, steps: Steps) -> None:
    per_minute = 0 if s.quota is None else s.quota.per_minute
    if per_minute:
        steps.ok("quota", f"at most {per_minute} requests a minute for project {project}, by our own limit")
    else:
        steps.warn(
            "quota",
            "there is no limit of our own, so a fan-out runs into Google's",
            "set HELIOGRAPH_AMAPI_REQUESTS_PER_MINUTE to what Google gives the project",
        )


async def _check_line(admin: Administration, enterprise: Enterprise, resource: Resource, steps: Steps) -> None:
    again = _AGAIN.format(name=enterprise.name)
    if not enterprise.subscription and not enterprise.push_audience:
        steps.warn("notifications", "are not set up: results come late, by asking", again)
        return
    topic = str(resource.get("pubsubTopic") or "")
    told = resource.get("enabledNotificationTypes")
    missing = [kind for kind in KINDS if kind not in (told if isinstance(told, list) else [])]
    if not topic or missing:
        lacks = "has no topic" if not topic else f"does not tell {', '.join(missing)}"
        steps.fail("notifications", f"the enterprise {lacks}", again)
    steps.ok("notifications", f"the enterprise tells {', '.join(KINDS)}")
    await _check_topic(admin, topic, again, steps)
    if enterprise.subscription:
        await _check_subscription(admin, enterprise.subscription, topic, again, steps)
    else:
        steps.ok("subscription", f"pushed, under tokens for {enterprise.push_audience}")


async def _check_topic(admin: Administration, topic: str, again: str, steps: Steps) -> None:
    policy = await admin.topics.policy(topic)
    if isinstance(policy, Fault) and policy.kind is FaultKind.FORBIDDEN and await _works_unseen(admin, topic):
        steps.warn(
            "grant",
            f"the account may not look at the grants of {topic}",
            f"see that it grants {PUBLISHER_ROLE} to {PUBLISHER}",
        )
        return
    if isinstance(policy, Fault):
        steps.fault("topic", policy)
    steps.ok("topic", topic)
    if not may_publish(policy):
        steps.fail("grant", f"{PUBLISHER} may not publish there", again)
    if others := other_publishers(policy):
        steps.warn(
            "grant",
            f"besides Google {', '.join(others)[:300]} may publish there, and what they send is believed",
            "take from them what they do not need",
        )
    else:
        steps.ok("grant", f"{PUBLISHER_ROLE} to {PUBLISHER}")


async def _works_unseen(admin: Administration, topic: str) -> bool:
    """Whether a topic may be all right although its policy is hidden: another project's, or for a modest account."""
    if not topic.startswith(f"projects/{admin.project}/"):
        return True
    return not isinstance(await admin.topics.get(topic), Fault)


async def _check_subscription(admin: Administration, name: str, topic: str, again: str, steps: Steps) -> None:
    found = await admin.topics.get(name)
    if isinstance(found, Fault):
        steps.fault("subscription", found)
    if (wrong := what_is_wrong(found, topic)) is not None:
        steps.fail("subscription", f"{name} {wrong}", again)
    if (loss := what_it_holds_back(found)) is not None:
        steps.warn("subscription", f"{name} {loss}", "the rest is only found out by asking: take one without a filter")
    elif expires(found):
        steps.warn("subscription", f"{name} ends by itself when this server is down for long", again)
    else:
        steps.ok("subscription", name)


def _say_heard(s: Services, enterprise: Enterprise, steps: Steps) -> None:
    if not enterprise.subscription and not enterprise.push_audience:
        return
    if enterprise.heard_at is None:
        steps.warn(
            "last heard",
            "nothing has come yet",
            "right for a new enterprise; heliograph doctor --send-test sends something while the server runs",
        )
    elif s.clock.now() - enterprise.heard_at > _SILENT_US:
        steps.warn(
            "last heard",
            f"nothing since {time_text(enterprise.heard_at)}",
            "is the server (serve dispatcher, serve all or up) running? heliograph doctor --send-test tells",
        )
    else:
        steps.ok("last heard", time_text(enterprise.heard_at))


async def _send_test(admin: Administration, resource: Resource, steps: Steps) -> None:
    topic = str(resource.get("pubsubTopic") or "")
    if not topic:
        return
    sent = await admin.topics.publish_test(topic)
    if isinstance(sent, Fault):
        steps.fault("test notification", sent)
    steps.done("test notification", f"sent on {topic}")
