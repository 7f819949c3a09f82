"""Batches within the limits of a message, and nothing lost or out of order when a line breaks."""

import msgspec

from heliograph_agent.outbox import Outbox, Signal
from heliograph_protocol.messages import MAX_ITEMS, MAX_MESSAGE_BYTES, CancelAnswer, CheckIn, PushAck, Report


def report(number: int, size: int = 0) -> Report:
    return Report(command_id=f"c{number}", rung="succeeded", at="", detail={"text": "x" * size} if size else None)


def drain(outbox: Outbox) -> list[CheckIn]:
    messages = []
    while outbox:
        messages.append(outbox.take(claim=0))
    return messages


async def test_a_message_has_at_most_so_many_items() -> None:
    outbox = Outbox(Signal())
    for number in range(100):
        outbox.add(PushAck(id=f"p{number}", at=""))
        outbox.add(report(number))
    messages = drain(outbox)
    assert [len(message.push_acks) for message in messages] == [MAX_ITEMS, 100 - MAX_ITEMS]
    assert [r.command_id for message in messages for r in message.reports] == [f"c{n}" for n in range(100)]


async def test_a_message_has_at_most_so_many_bytes() -> None:
    outbox = Outbox(Signal())
    for number in range(9):
        outbox.add(report(number, 65_000))
    messages = drain(outbox)
    assert max(len(msgspec.json.encode(message)) for message in messages) <= MAX_MESSAGE_BYTES
    assert [r.command_id for message in messages for r in message.reports] == [f"c{n}" for n in range(9)]


async def test_what_was_under_way_comes_first_again() -> None:
    outbox = Outbox(Signal())
    for number in range(3):
        outbox.add(report(number))
        outbox.take(claim=1)
    outbox.settle(2)
    outbox.add(report(3))
    # Under way, so not twice.
    outbox.add(report(0))
    outbox.requeue()
    assert outbox.claims_under_way == 0
    message = outbox.take(claim=0)
    assert [r.command_id for r in message.reports] == ["c0", "c2", "c3"]
    assert message.seq == 4


async def test_the_answer_to_another_check_in_settles_nothing() -> None:
    outbox = Outbox(Signal())
    outbox.add(report(1))
    message = outbox.take(claim=0)
    assert outbox.settle(99) is None
    assert outbox.settle(message.seq) == message
    assert outbox.settle(message.seq) is None


async def test_a_rejection_is_not_told_behind_the_not_now_that_followed_it() -> None:
    outbox = Outbox(Signal())
    rejected = CancelAnswer(command_id="c1", outcome="rejected", at="")
    deferred = Report(command_id="c1", rung="deferred", at="")
    outbox.add(rejected)
    outbox.add(deferred)
    assert [(m.reports, m.cancel_answers) for m in drain(outbox)] == [([deferred], [])]

    outbox = Outbox(Signal())
    outbox.add(rejected)
    assert outbox.take(claim=0).cancel_answers == [rejected]
    outbox.add(deferred)
    outbox.requeue()  # the line broke: nobody knows whether the first was heard
    assert [(m.reports, m.cancel_answers) for m in drain(outbox)] == [([deferred], [])]
