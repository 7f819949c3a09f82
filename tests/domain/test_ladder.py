"""The table of transitions, row by row."""

from itertools import product

import pytest

from heliograph.domain import ladder
from heliograph.domain.ladder import CORRECTABLE, MAX_ENTRIES, TERMINAL, TRANSITIONS, Event, Issue, Reason, Rung, apply
from tests.domain.builders import HOUR, a_command

EVENTS: list[Event] = [
    ladder.Held(source="t"),
    ladder.Scheduled(source="t"),
    ladder.Released(source="t"),
    ladder.Issued(source="t", receipt="r", operation={"name": "r"}),
    ladder.Claimed(source="t"),
    ladder.Acknowledged(source="t"),
    ladder.Started(source="t", rejects_cancel=True),
    ladder.Deferred(source="t"),
    ladder.Succeeded(source="t"),
    ladder.Failed(source="t", reason=Reason("BROKEN"), executed=True),
    ladder.Undeliverable(source="t", reason=Reason("GONE")),
    ladder.Expired(source="t"),
    ladder.Cancelled(source="t"),
    ladder.Superseded(source="t"),
]


def test_every_event_of_the_table_is_tried_here() -> None:
    assert {type(e) for e in EVENTS} == {kind for _, kind in TRANSITIONS}


@pytest.mark.parametrize(
    ("rung", "event"), list(product(Rung, EVENTS)), ids=lambda v: getattr(v, "value", type(v).__name__)
)
def test_a_pair_moves_as_the_table_says_or_not_at_all(rung: Rung, event: Event) -> None:
    # Of a device with our agent, a result needs a claim; see below.
    before = a_command(platform="android" if isinstance(event, ladder.Succeeded | ladder.Failed) else "aosp", rung=rung)
    after = apply(before, event, now=5).command
    expected = TRANSITIONS.get((rung, type(event)), rung)
    assert after.rung is expected
    assert (after.rung_at == 5) == ((rung, type(event)) in TRANSITIONS)


def test_terminal_rungs_are_left_only_on_evidence_of_execution() -> None:
    ways_out = {(rung, kind) for rung, kind in TRANSITIONS if rung in TERMINAL}
    assert ways_out == set(product(CORRECTABLE, (ladder.Succeeded, ladder.Failed)))


def test_not_knowing_is_no_evidence_of_execution() -> None:
    expired = a_command(rung=Rung.EXPIRED_RUNNING)
    unknown = ladder.Failed(source="agent", reason=Reason("outcome_unknown"))
    assert apply(expired, unknown, now=5).command.rung is Rung.EXPIRED_RUNNING


def test_a_late_result_after_a_cancel_moves_nothing_and_stays_as_evidence() -> None:
    cancelled = a_command(rung=Rung.CANCELLED)
    step = apply(cancelled, ladder.Succeeded(source="amapi", evidence={"name": "op"}), now=5)
    assert step.command.rung is Rung.CANCELLED
    assert step.entry is not None
    assert step.entry.evidence == {"name": "op", "contradicts": "succeeded"}


def test_the_same_result_twice_is_one_entry() -> None:
    first = apply(a_command(rung=Rung.RUNNING), ladder.Succeeded(source="agent"), now=5)
    assert apply(first.command, ladder.Succeeded(source="agent"), now=6).entry is None


def test_a_contradiction_is_kept_once_of_each_kind() -> None:
    command = a_command(rung=Rung.CANCELLED)
    entries: list[ladder.Entry] = []
    for second in range(6):
        event = ladder.Succeeded(source="agent") if second % 2 else ladder.Failed(source="agent", reason=Reason("X"))
        step = apply(command, event, now=second)
        command, entries = step.command, [*entries, *([step.entry] if step.entry else [])]
    assert [e.evidence["contradicts"] for e in entries] == ["failed", "succeeded"]
    assert (command.rung, command.entries) == (Rung.CANCELLED, 2)


UNKNOWN = Reason("outcome_unknown", "nobody can tell")
DONE = {"name": "op", "done": True}
LATE: list[Event] = [
    ladder.Succeeded(source="amapi", operation=DONE),
    ladder.Failed(source="amapi", reason=Reason("API_LEVEL"), executed=True, operation=DONE),
    ladder.Cancelled(source="amapi", operation=DONE),
    ladder.Expired(source="amapi", operation=DONE),
]


@pytest.mark.parametrize("event", LATE, ids=lambda e: type(e).__name__)
def test_whatever_is_learnt_after_nobody_could_tell_is_kept_once_and_moves_nothing(event: Event) -> None:
    unknown = a_command(platform="android", rung=Rung.FAILED, reason=UNKNOWN, operation={"name": "op"}, entries=3)
    first = apply(unknown, event, now=5)
    assert (first.command.rung, first.command.reason) == (Rung.FAILED, UNKNOWN)
    assert first.entry is not None
    kind = type(event).__name__.lower()
    assert (first.entry.rung, first.entry.seq, first.entry.evidence) == ("failed", 3, {"contradicts": kind})
    assert first.command.contradicted == (kind,)
    for again in (event, ladder.Failed(source="amapi", reason=UNKNOWN), ladder.Expired(source="sweeper")):
        assert apply(first.command, again, now=6).command is first.command


@pytest.mark.parametrize("rung", [Rung.SUCCEEDED, Rung.CANCELLED])
def test_a_word_of_expiry_against_an_end_that_was_read_otherwise_is_kept(rung: Rung) -> None:
    step = apply(a_command(platform="android", rung=rung), LATE[-1], now=5)
    assert (step.command.rung, step.command.contradicted) == (rung, ("expired",))


@pytest.mark.parametrize(
    ("rung", "reason", "event"),
    [
        (Rung.SUCCEEDED, None, LATE[0]),
        (Rung.CANCELLED, None, LATE[2]),
        (Rung.EXPIRED_UNDELIVERED, Reason("EXPIRED"), LATE[3]),
        (Rung.FAILED, UNKNOWN, ladder.Failed(source="amapi", reason=UNKNOWN)),
        (Rung.FAILED, Reason("API_LEVEL"), LATE[1]),
        (Rung.FAILED, Reason("RPC_13"), LATE[3]),  # the same answer is an expiry once its time is over
        (Rung.SUCCEEDED, None, ladder.Expired(source="sweeper")),
    ],
)
def test_the_same_truth_twice_is_no_contradiction(rung: Rung, reason: Reason | None, event: Event) -> None:
    command = a_command(platform="android", rung=rung, reason=reason, operation={"name": "op"})
    assert apply(command, event, now=5).command is command


def test_the_answer_that_ended_it_is_no_contradiction_where_another_clock_reads_it_otherwise() -> None:
    expired = a_command(platform="android", rung=Rung.EXPIRED_UNDELIVERED, operation=dict(DONE))
    behind = ladder.Failed(source="amapi", reason=Reason("RPC_13"), operation=DONE)
    assert apply(expired, behind, now=5).command is expired


@pytest.mark.parametrize("rung", [Rung.QUEUED, Rung.ISSUED])
@pytest.mark.parametrize(
    "event",
    [
        ladder.Succeeded(source="agent"),
        ladder.Failed(source="agent", reason=Reason("BROKEN"), executed=True),
        ladder.Failed(source="agent", reason=Reason("outcome_unknown"), by_agent=True),
        ladder.Expired(source="agent", by_agent=True),
    ],
    ids=["succeeded", "failed", "unknown", "too-late"],
)
def test_a_result_without_a_claim_moves_nothing_and_stays_as_evidence_once(rung: Rung, event: Event) -> None:
    first = apply(a_command(rung=rung), event, now=5)
    assert first.command.rung is rung
    assert first.entry is not None
    assert "contradicts" in first.entry.evidence
    assert apply(first.command, event, now=6).entry is None


@pytest.mark.parametrize("rung", [Rung.EXPIRED_UNDELIVERED, Rung.UNDELIVERABLE])
@pytest.mark.parametrize(
    "event",
    [
        ladder.Succeeded(source="agent"),
        ladder.Failed(source="agent", reason=Reason("BROKEN"), executed=True, by_agent=True),
    ],
    ids=["succeeded", "failed"],
)
def test_an_end_before_any_claim_is_not_corrected_by_a_device_that_claimed_nothing(rung: Rung, event: Event) -> None:
    first = apply(a_command(rung=rung, reason=Reason("EXPIRED")), event, now=5)
    assert (first.command.rung, first.command.reason) == (rung, Reason("EXPIRED"))
    assert first.entry is not None
    assert "contradicts" in first.entry.evidence
    assert apply(first.command, event, now=6).entry is None


def test_what_the_server_itself_gives_up_needs_no_claim() -> None:
    lost = ladder.Failed(source="agent", reason=Reason("SECRET_LOST"))
    assert apply(a_command(rung=Rung.ISSUED), lost, now=5).command.rung is Rung.FAILED
    assert apply(a_command(rung=Rung.ISSUED), ladder.Expired(source="sweeper"), now=5).command.is_over


def test_a_history_is_bounded_and_still_shows_the_cancel_and_the_end() -> None:
    command = a_command(rung=Rung.DELIVERED)
    entries: list[ladder.Entry] = []

    def hear(event: Event) -> None:
        nonlocal command
        step = apply(command, event, now=5)
        command = step.command
        entries.extend([step.entry] if step.entry else [])

    for _ in range(MAX_ENTRIES):
        hear(ladder.Started(source="agent"))
        hear(ladder.Deferred(source="agent"))
        hear(ladder.Noted(source="agent"))
    assert (len(entries), command.rung) == (MAX_ENTRIES, Rung.DEFERRED)
    hear(ladder.CancelRequested(source="key:1"))
    hear(ladder.Succeeded(source="agent"))
    assert [e.rung for e in entries[MAX_ENTRIES:]] == ["deferred", "succeeded"]
    assert [e.seq for e in entries] == list(range(command.entries))


def test_what_decisions_go_by_is_kept_whatever_a_history_holds() -> None:
    command = a_command(rung=Rung.ISSUED, entries=MAX_ENTRIES)
    for found, expected in (
        ({"a": 1}, {"a": 1}),
        ({"b": 2}, {"a": 1, "b": 2}),
        ({"a": None}, {"b": 2}),
        ({"b": None}, None),
    ):
        step = apply(command, ladder.Noted(source="amapi", findings=found), now=5)
        command = step.command
        assert (step.entry, command.findings, command.entries) == (None, expected, MAX_ENTRIES)


class TestCancel:
    def test_is_proven_at_once_before_anybody_was_given_the_command(self) -> None:
        step = apply(a_command(), ladder.CancelRequested(source="key:1"), now=5)
        assert (step.command.rung, step.command.cancel_requested_at) == (Rung.CANCELLED, 5)

    def test_is_proven_for_aosp_while_only_a_push_is_on_its_way(self) -> None:
        step = apply(a_command(rung=Rung.ISSUED), ladder.CancelRequested(source="key:1"), now=5)
        assert step.command.rung is Rung.CANCELLED

    @pytest.mark.parametrize("issue", [Issue.OPEN, Issue.BOUND])
    def test_is_only_asked_for_once_google_may_have_it(self, issue: Issue) -> None:
        command = a_command(platform="android", issue=issue)
        step = apply(command, ladder.CancelRequested(source="key:1"), now=5)
        assert (step.command.rung, step.command.cancel_requested_at) == (Rung.QUEUED, 5)

    def test_is_only_asked_for_once_the_agent_has_claimed(self) -> None:
        step = apply(a_command(rung=Rung.DELIVERED), ladder.CancelRequested(source="key:1"), now=5)
        assert (step.command.rung, step.command.cancel_requested_at) == (Rung.DELIVERED, 5)

    def test_asked_for_twice_is_one_entry(self) -> None:
        first = apply(a_command(rung=Rung.RUNNING), ladder.CancelRequested(source="key:1"), now=5).command
        assert apply(first, ladder.CancelRequested(source="key:2"), now=6).entry is None


class TestIssue:
    def test_an_open_attempt_cannot_expire_by_our_own_judgement(self) -> None:
        command = a_command(platform="android", issue=Issue.OPEN)
        assert apply(command, ladder.Expired(source="sweeper"), now=2 * HOUR).command.rung is Rung.QUEUED

    def test_an_answered_attempt_can_be_cancelled_again(self) -> None:
        command = a_command(platform="android", issue=Issue.OPEN)
        refused = apply(command, ladder.IssueRefused(source="amapi"), now=5).command
        assert apply(refused, ladder.CancelRequested(source="key:1"), now=6).command.rung is Rung.CANCELLED

    def test_the_secret_leaves_once_google_has_it(self) -> None:
        command = a_command(platform="android", issue=Issue.OPEN, secret=b"sealed")
        issued = ladder.Issued(source="amapi", receipt="op", operation={"name": "op"})
        assert apply(command, issued, now=5).command.secret is None


def test_the_secret_stays_until_the_result_for_the_agent_may_still_defer() -> None:
    command = a_command(rung=Rung.DELIVERED, secret=b"sealed")
    for event in (ladder.Acknowledged(source="agent"), ladder.Started(source="agent"), ladder.Deferred(source="agent")):
        command = apply(command, event, now=5).command
        assert command.secret == b"sealed"
    assert apply(command, ladder.Succeeded(source="agent"), now=5).command.secret is None


def test_a_push_accepted_late_leaves_its_id_and_moves_nothing() -> None:
    command = a_command(rung=Rung.RUNNING)
    after = apply(command, ladder.Issued(source="provider:pushy", push_id="p"), now=5).command
    assert (after.rung, after.push_id) == (Rung.RUNNING, "p")
