"""Having Google tell of an enterprise: a topic, the grant to publish there, a subscription, and the enterprise itself.

What somebody else has set up is left as it is: an enterprise that tells on a topic of its own gets one more
subscription there. Sources: research/amapi.md 2, "Pub/Sub"; https://developers.google.com/android/management/notifications
"""

from functools import partial

from heliograph.app.google_reach import paid
from heliograph.app.services import Services
from heliograph.app.steps import Steps
from heliograph.ports.administration import Administration, Fault, FaultKind, Resource

PUBLISHER = "serviceAccount:android-cloud-policy@system.gserviceaccount.com"
PUBLISHER_ROLE = "roles/pubsub.publisher"
_PUBLISHING = (PUBLISHER_ROLE, "roles/pubsub.editor", "roles/pubsub.admin", "roles/editor", "roles/owner")
# What this server records. The others tell nothing that is kept, and USAGE_LOGS tells where people are.
KINDS = ("COMMAND", "STATUS_REPORT", "ENROLLMENT")
_TRIES = 4
_ACK_S = 60
_RETENTION = "604800s"  # the longest: what comes while this server is down waits for so long


def usual_names(project: str, enterprise: str) -> tuple[str, str]:
    """Topic and subscription as this server names them; one pair for each enterprise."""
    last = f"heliograph-{enterprise.rpartition('/')[2]}"
    return f"projects/{project}/topics/{last}", f"projects/{project}/subscriptions/{last}"


async def ensure_topic(admin: Administration, topic: str, steps: Steps) -> None:
    """A topic that exists, on which Google may publish."""
    made = await admin.topics.create(topic, {})
    if isinstance(made, Fault) and made.kind is not FaultKind.EXISTS:
        steps.fault("topic", made)
    (steps.ok if isinstance(made, Fault) else steps.done)("topic", topic)
    await _ensure_grant(admin, topic, steps)


async def _ensure_grant(admin: Administration, topic: str, steps: Steps) -> None:
    granted = f"{PUBLISHER_ROLE} to {PUBLISHER}"
    changed: Resource | Fault = Fault(FaultKind.EXISTS, "the topic's policy changes all the time")
    for _ in range(_TRIES):
        policy = await admin.topics.policy(topic)
        if isinstance(policy, Fault):
            steps.fault("grant", policy)
        if may_publish(policy):
            steps.ok("grant", granted)
            return
        changed = await admin.topics.set_policy(topic, _with_publisher(policy))
        if not isinstance(changed, Fault) or changed.kind is not FaultKind.EXISTS:
            break
    if isinstance(changed, Fault):
        steps.fault("grant", changed)
    steps.done("grant", granted)


def may_publish(policy: Resource) -> bool:
    """Whether a topic's policy lets Google publish on it."""
    return any(b.get("role") == PUBLISHER_ROLE and PUBLISHER in _members(b) for b in _bindings(policy))


def other_publishers(policy: Resource) -> list[str]:
    """Who else a topic's own policy lets publish on it. No token tells a pulled message of theirs from Google's."""
    members = (binding.get("members") for binding in _bindings(policy) if binding.get("role") in _PUBLISHING)
    named = {str(member) for listed in members if isinstance(listed, list) for member in listed}
    return sorted(named - {PUBLISHER})


def _bindings(policy: Resource) -> list[Resource]:
    bindings = policy.get("bindings")
    return [b for b in bindings if isinstance(b, dict)] if isinstance(bindings, list) else []


def _members(binding: Resource) -> list[object]:
    members = binding.get("members")
    # A binding under a condition may not hold when it matters.
    return members if isinstance(members, list) and not binding.get("condition") else []


def _with_publisher(policy: Resource) -> Resource:
    return {**policy, "bindings": [*_bindings(policy), {"role": PUBLISHER_ROLE, "members": [PUBLISHER]}]}


async def ensure_subscription(admin: Administration, name: str, topic: str, steps: Steps) -> None:
    """A subscription of the topic that can be pulled and never expires."""
    wanted = {
        "topic": topic,
        "expirationPolicy": {},
        "ackDeadlineSeconds": _ACK_S,
        "messageRetentionDuration": _RETENTION,
    }
    made = await admin.topics.create(name, wanted)
    if not isinstance(made, Fault):
        steps.done("subscription", name)
        return
    if made.kind is not FaultKind.EXISTS:
        steps.fault("subscription", made)
    found = await admin.topics.get(name)
    if isinstance(found, Fault):
        steps.fault("subscription", found)
    if (wrong := what_is_wrong(found, topic)) is not None:
        steps.fail("subscription", f"{name} {wrong}", "choose another name with --subscription, or delete that one")
    if (loss := what_it_holds_back(found)) is not None:
        steps.warn("subscription", f"{name} {loss}", "choose another name with --subscription: a filter stays for ever")
    if not expires(found):
        if loss is None:
            steps.ok("subscription", name)
        return
    changed = await admin.topics.never_expire(name)
    if isinstance(changed, Fault):
        steps.fault("subscription", changed)
    steps.done("subscription", f"{name} (it would have expired)")


def what_is_wrong(subscription: Resource, topic: str) -> str | None:
    """Why this server cannot pull an enterprise's notifications from a subscription; None when it can."""
    if subscription.get("topic") != topic:
        return f"belongs to the topic {str(subscription.get('topic'))[:300]}"
    push = subscription.get("pushConfig")
    if isinstance(push, dict) and push.get("pushEndpoint"):
        return "pushes to an endpoint, so nothing can be pulled from it"
    return "is detached from its topic" if subscription.get("detached") else None


def what_it_holds_back(subscription: Resource) -> str | None:
    """What of an enterprise's notifications may never come from a subscription; None where all do."""
    text = subscription.get("filter")
    return f"passes on only what its filter lets through: {str(text)[:300]}" if text else None


def expires(subscription: Resource) -> bool:
    """Whether a subscription ends by itself when it is not used for a while."""
    policy = subscription.get("expirationPolicy")
    return not isinstance(policy, dict) or bool(policy.get("ttl"))


async def ensure_telling(
    s: Services, admin: Administration, enterprise: Resource, name: str, topic: str, steps: Steps
) -> None:
    """An enterprise that tells what this server records, on the topic."""
    told = enterprise.get("enabledNotificationTypes")
    enabled = [kind for kind in told if isinstance(kind, str)] if isinstance(told, list) else []
    missing = [kind for kind in KINDS if kind not in enabled]
    if enterprise.get("pubsubTopic") == topic and not missing:
        steps.ok("notifications", f"{name} tells {', '.join(KINDS)}")
        return
    changed = await paid(s, admin, partial(admin.enterprises.notify, name, topic, [*enabled, *missing]))
    if isinstance(changed, Fault) and changed.kind in (FaultKind.REFUSED, FaultKind.FORBIDDEN):
        steps.fail(
            "notifications", changed.reason, "Google takes some minutes to know of a new grant: run it again then"
        )
    if isinstance(changed, Fault):
        steps.fault("notifications", changed)
    steps.done("notifications", f"{name} tells {', '.join(KINDS)}")
