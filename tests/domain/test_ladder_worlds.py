"""No sequence of events, in any order, late or doubled, ends in a lie.

Two worlds play against the ladder: a device with our agent, and Google with its operations. Each keeps its own truth;
what it says reaches the ladder when the schedule pleases, any number of times.
"""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from heliograph.domain import ladder
from heliograph.domain.catalog import TYPES
from heliograph.domain.command_types import read_operation
from heliograph.domain.ladder import CORRECTABLE, TERMINAL, Command, Event, Issue, Reason, Rung, apply
from tests.domain.builders import HOUR, a_command

MOVES_OF_EVIDENCE = {Rung.SUCCEEDED, Rung.FAILED}


class World(RuleBasedStateMachine):
    """What both worlds share: the command as the server knows it, and the rules it must never break."""

    platform = "aosp"

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.command: Command = a_command(platform=self.platform)
        self.entries: list[ladder.Entry] = []
        self.said: list[Event] = []  # what the world has said so far; may arrive again at any time
        self.executed = 0
        self.corrections = 0
        self.hear(ladder.Requested(source="key:1"))

    def hear(self, event: Event) -> None:
        before = self.command
        step = apply(before, event, now=self.now)
        self.command = step.command
        if step.entry is not None:
            self.entries[step.entry.seq : step.entry.seq + 1] = [step.entry]
        if before.rung in TERMINAL and self.command.rung is not before.rung:
            assert before.rung in CORRECTABLE, f"{before.rung} was left for {self.command.rung}"
            assert self.command.rung in MOVES_OF_EVIDENCE
            self.corrections += 1

    @rule(seconds=st.integers(0, 3000))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds * 1_000_000

    @rule(data=st.data())
    @precondition(lambda self: self.said)
    def something_arrives_again(self, data: st.DataObject) -> None:
        self.hear(data.draw(st.sampled_from(self.said)))

    @rule()
    def somebody_cancels(self) -> None:
        self.hear(ladder.CancelRequested(source="key:2"))

    @rule()
    @precondition(lambda self: self.now > HOUR and self.command.issue is not Issue.BOUND)
    def the_sweeper_comes(self) -> None:
        self.hear(ladder.Expired(source="sweeper"))

    @invariant()
    def never_cancelled_and_executed(self) -> None:
        assert not (self.command.rung in (Rung.CANCELLED, Rung.SUPERSEDED) and self.executed)

    @invariant()
    def never_twice(self) -> None:
        assert self.executed <= 1
        assert self.corrections <= 1

    @invariant()
    def success_is_true(self) -> None:
        assert self.command.rung is not Rung.SUCCEEDED or self.executed

    @invariant()
    def history_is_whole(self) -> None:
        assert [e.seq for e in self.entries] == list(range(self.command.entries))
        assert self.entries[-1].rung == self.command.rung

    @invariant()
    def secrets_leave_with_the_end(self) -> None:
        assert not self.command.is_over or self.command.secret is None


class AgentWorld(World):
    """A device with our agent: it runs only what it was let claim and has not journalled as cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.holds = False
        self.refused = False
        self.begun = False

    def say(self, event: Event, *, lost: bool) -> None:
        self.said.append(event)
        if not lost:
            self.hear(event)

    @rule()
    def the_push_is_accepted(self) -> None:
        self.hear(ladder.Issued(source="provider:pushy", push_id="p1"))

    @rule(answer_lost=st.booleans())
    @precondition(lambda self: self.command.rung in (Rung.QUEUED, Rung.ISSUED, Rung.DEFERRED, Rung.DELIVERED))
    def the_agent_claims(self, answer_lost: bool) -> None:
        if self.command.cancel_requested_at is None or self.command.rung is not Rung.DELIVERED:
            self.hear(ladder.Claimed(source="agent"))  # the server commits the claim, then answers
            self.holds = self.holds or not answer_lost

    @rule(lost=st.booleans())
    @precondition(lambda self: self.holds)
    def the_agent_acknowledges(self, lost: bool) -> None:
        self.say(ladder.Acknowledged(source="agent"), lost=lost)

    @rule(lost=st.booleans(), works=st.booleans())
    @precondition(lambda self: self.holds and not self.begun and not self.refused)
    def the_agent_runs_it(self, lost: bool, works: bool) -> None:
        self.begun = True
        self.say(ladder.Started(source="agent"), lost=lost)
        if works:
            self.executed += 1
            self.say(ladder.Succeeded(source="agent"), lost=lost)
        else:
            self.say(ladder.Failed(source="agent", reason=Reason("BROKEN"), executed=True), lost=lost)

    @rule(lost=st.booleans())
    @precondition(lambda self: self.command.cancel_requested_at is not None and not self.begun)
    def the_agent_confirms_a_cancel(self, lost: bool) -> None:
        self.refused = True
        self.say(ladder.Cancelled(source="agent"), lost=lost)

    @rule()
    @precondition(lambda self: self.begun)
    def the_agent_crashed_and_cannot_tell(self) -> None:
        self.hear(ladder.Failed(source="agent", reason=Reason("outcome_unknown")))

    @rule(lost=st.booleans())
    @precondition(lambda self: self.holds and not self.begun)
    def not_now(self, lost: bool) -> None:
        self.holds = False  # it needs another claim to run it
        self.say(ladder.Deferred(source="agent"), lost=lost)


class GoogleWorld(World):
    """Google holds at most one operation for the command; the device runs it or the cancel ends it, never both."""

    platform = "android"

    def __init__(self) -> None:
        super().__init__()
        self.operation: dict[str, Any] | None = None
        self.in_flight = False

    def read(self) -> None:
        """The server reads the operation, as it is now."""
        if self.operation is None or self.command.receipt is None:
            return
        event = read_operation(
            TYPES["LOCK"], self.operation, params={}, now=self.now, expires_at=self.command.expires_at
        )
        if event is not None:
            self.said.append(event)
            self.hear(event)

    @rule()
    @precondition(lambda self: self.command.rung is Rung.QUEUED and self.command.issue is Issue.IDLE)
    def an_attempt_begins(self) -> None:
        self.hear(ladder.IssueStarted(source="dispatcher"))
        self.in_flight = self.command.issue is Issue.OPEN

    @rule()
    @precondition(lambda self: self.in_flight and self.operation is None)
    def google_accepts(self) -> None:
        self.operation = {"name": "enterprises/e/devices/d/operations/1", "metadata": {"type": "LOCK"}}

    @rule()
    @precondition(lambda self: self.in_flight and self.operation is None)
    def google_refuses_for_now(self) -> None:
        self.in_flight = False
        self.hear(ladder.IssueRefused(source="amapi"))

    @rule()
    @precondition(lambda self: self.operation is not None and self.command.issue is Issue.OPEN)
    def the_answer_or_the_list_names_it(self) -> None:
        assert self.operation is not None
        self.in_flight = False
        self.hear(ladder.Issued(source="amapi", receipt=self.operation["name"], operation=dict(self.operation)))

    @rule(works=st.booleans())
    @precondition(lambda self: self.operation is not None and "done" not in self.operation)
    def the_device_runs_it(self, works: bool) -> None:
        assert self.operation is not None
        self.operation["done"] = True
        if works:
            self.executed += 1
        else:
            self.operation["metadata"] = {"type": "LOCK", "errorCode": "UNKNOWN"}

    @rule(code=st.sampled_from([1, 4, 10, 13]))
    @precondition(lambda self: self.operation is not None and "done" not in self.operation)
    def google_ends_it_without_running(self, code: int) -> None:
        assert self.operation is not None
        self.operation |= {"done": True, "error": {"code": code, "message": "over"}}

    @rule(kind=st.sampled_from([ladder.Claimed, ladder.Acknowledged, ladder.Started, ladder.Deferred]))
    def an_agent_meddles(self, kind: type[Event]) -> None:
        before = self.command.rung
        self.hear(kind(source="agent"))
        assert self.command.rung is before

    @rule()
    def the_server_looks(self) -> None:
        self.read()

    @invariant()
    def a_cancel_is_proven(self) -> None:
        if self.command.rung is Rung.CANCELLED:
            never_issued = self.operation is None
            assert never_issued or (self.operation or {}).get("error", {}).get("code") == 1


LONG = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestAgentWorld = AgentWorld.TestCase
TestAgentWorld.settings = LONG
TestGoogleWorld = GoogleWorld.TestCase
TestGoogleWorld.settings = LONG
