"""A topic's grants as Google shows and takes them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from heliograph.app.notification_line import PUBLISHER, PUBLISHER_ROLE, ensure_topic, may_publish, other_publishers
from heliograph.app.steps import Steps
from heliograph.channels.administration import GoogleAdministration
from tests.channels.google import Google, account, error
from tests.support.wire import Action, Seen, json_answer

TOPIC = "projects/p/topics/t"
CONDITION = {"title": "this year", "expression": "request.time < timestamp('2027-01-01T00:00:00Z')"}
HASH = "2b17cc25d2cd9e2c54d8"
THEIRS = {"role": PUBLISHER_ROLE, "members": ["user:a@example.com", PUBLISHER], "condition": CONDITION}


class Conditional:
    """A topic with a grant under a condition. Who does not ask for version 3 is shown no conditions and other names of
    the roles, and what such a policy becomes has to be of version 3.
    Source: https://cloud.google.com/iam/docs/troubleshooting-withcond and the texts of `Policy.version`.
    """

    def __init__(self) -> None:
        self.bindings: list[dict[str, Any]] = [THEIRS]

    def answer(self, seen: Seen) -> Action:
        if seen.path.endswith(":setIamPolicy"):
            policy = seen.json["policy"]
            if policy.get("version") != 3 or policy.get("etag") != "e1":
                return error(400, "Policies with conditional role bindings must specify version 3.")
            self.bindings = policy["bindings"]
            return json_answer(policy)
        if not seen.path.endswith(":getIamPolicy"):
            return error(409, "Resource already exists in the project.")
        if seen.query.get("options.requestedPolicyVersion") == "3":
            return json_answer({"version": 3, "etag": "e1", "bindings": self.bindings})
        plain = {"role": f"{PUBLISHER_ROLE}_withcond_{HASH}", "members": THEIRS["members"]}
        return json_answer({"version": 1, "etag": "e1", "bindings": [plain]})


@pytest.fixture
async def admin(google: Google) -> AsyncIterator[GoogleAdministration]:
    found = GoogleAdministration(account(google.token_uri), google.wire.url, google.wire.url)
    yield found
    await found.close()


async def test_a_grant_under_a_condition_stays_beside_ours(google: Google, admin: GoogleAdministration) -> None:
    topic = Conditional()
    google.api = topic.answer
    await ensure_topic(admin, TOPIC, Steps())
    assert topic.bindings == [THEIRS, {"role": PUBLISHER_ROLE, "members": [PUBLISHER]}]


async def test_who_may_publish_under_a_condition_is_named(google: Google, admin: GoogleAdministration) -> None:
    google.api = Conditional().answer
    policy = await admin.topics.policy(TOPIC)
    assert isinstance(policy, dict)
    assert other_publishers(policy) == ["user:a@example.com"]
    assert not may_publish(policy)
