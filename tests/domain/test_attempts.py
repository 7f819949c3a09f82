"""However many attempts fail, the history has one entry for them."""

from __future__ import annotations

from heliograph.domain.attempts import one_more
from heliograph.domain.deliveries import PushAccepted, PushAttempted, PushNoted, PushRung, apply_push
from heliograph.domain.ladder import Issue, IssueRefused, IssueStarted, Noted, apply
from tests.domain.builders import a_command, a_push

SECOND = 1_000_000


def test_the_summary_counts_and_keeps_the_last_reason() -> None:
    first = one_more(None, seq=3, reason="busy", uncertain=True, now=0)
    second = one_more(first, seq=9, reason="x" * 600, uncertain=False, now=5 * SECOND)
    assert (second.seq, second.count, second.uncertain, len(second.reason)) == (3, 2, 1, 500)
    evidence = second.evidence
    assert (evidence["firstAt"], evidence["lastAt"]) == ("1970-01-01T00:00:00.000Z", "1970-01-01T00:00:05.000Z")


def test_attempts_of_a_push_share_an_entry_also_when_others_come_between() -> None:
    push, entries = a_push(entries=1), {}
    for second in range(1000):
        step = apply_push(push, PushAttempted(source="p", reason="busy", uncertain=second < 2), now=second * SECOND)
        push = step.push
        assert step.entry is not None
        entries[step.entry.seq] = step.entry
        if second == 10:
            push = apply_push(push, PushNoted(source="p"), now=second * SECOND).push
    assert (push.rung, push.entries, list(entries)) == (PushRung.QUEUED, 3, [1])
    assert (entries[1].at, entries[1].evidence["attempts"], entries[1].evidence["uncertain"]) == (0, 1000, 2)


def test_an_attempt_that_ends_late_says_nothing_of_a_push_that_was_taken_before() -> None:
    taken = apply_push(a_push(), PushAccepted(source="p", reference="r"), now=1).push
    step = apply_push(taken, PushAttempted(source="p", reason="busy"), now=2)
    assert step.push.rung is PushRung.ACCEPTED
    assert step.push.attempts is not None


def test_attempts_to_issue_share_an_entry() -> None:
    command, entries = a_command(platform="android", entries=1), {}
    for second in range(100):
        for event in (IssueStarted(source="d"), IssueRefused(source="amapi", evidence={"reason": f"no {second}"})):
            step = apply(command, event, now=second * SECOND)
            command = step.command
            assert command.issue is (Issue.OPEN if isinstance(event, IssueStarted) else Issue.IDLE)
            if step.entry is not None:
                entries[step.entry.seq] = step.entry
    assert apply(command, Noted(source="x"), now=0).command.entries == 4
    assert [(e.seq, e.evidence.get("attempts"), e.evidence.get("reason")) for e in entries.values()] == [
        (1, None, None),  # the first attempt began
        (2, 100, "no 99"),
    ]
