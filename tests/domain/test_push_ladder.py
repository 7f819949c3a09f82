"""The push ladder itself: pure rules, whatever the ways."""

from heliograph.domain.deliveries import (
    Leg,
    LegAccepted,
    Push,
    PushAccepted,
    PushAttempted,
    PushRequested,
    PushRerouted,
    PushRung,
    apply_push,
)
from heliograph.domain.ladder import MAX_ENTRIES, Entry


def test_where_a_push_was_taken_late_is_kept_when_it_goes_that_way_again() -> None:
    """Else nobody would take it back there: the default account has changed, and changed back."""
    push = Push("p", "o", "d", "app", "silent", "pushy", "a", {}, 0, 0, 10**9)
    for event in (
        PushRerouted(source="dispatcher", provider="pushy", account_id="b"),
        LegAccepted(source="provider:pushy", provider="pushy", account_id="a", reference="1"),
        PushRerouted(source="dispatcher", provider="pushy", account_id="a"),
    ):
        push = apply_push(push, event, now=1).push
    assert push.legs == (Leg("pushy", "a", "1"), Leg("pushy", "b", None))
    assert (push.account_id, push.held_before) == ("a", Leg("pushy", "a", "1"))


def test_the_history_of_a_push_that_goes_to_and_fro_is_bounded_and_still_shows_where_it_ended() -> None:
    push = Push("p", "o", "d", "app", "silent", "pushy", None, {}, 0, 0, 10**9)
    entries: dict[int, Entry] = {}

    def hear(event: PushRequested | PushAttempted | PushRerouted | PushAccepted, now: int) -> None:
        nonlocal push
        step = apply_push(push, event, now=now)
        push = step.push
        if step.entry is not None:
            entries[step.entry.seq] = step.entry

    hear(PushRequested(source="key:1"), 1)
    for number in range(2 * MAX_ENTRIES):
        to = ("mqtt", "pushy")[number % 2]
        hear(PushAttempted(source="dispatcher", reason="busy"), number + 2)
        hear(PushRerouted(source="dispatcher", provider=to, account_id=None), number + 2)
        assert (push.provider, push.rung_at) == (to, number + 2)
    assert len(entries) == MAX_ENTRIES
    hear(PushAccepted(source="provider:pushy", reference="p1"), 10**6)
    assert (push.rung, entries[MAX_ENTRIES].rung) == (PushRung.ACCEPTED, "accepted")
    assert sorted(entries) == list(range(push.entries))
