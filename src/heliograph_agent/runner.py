"""Runs the commands of one device, one after another, and never one of them twice."""

import asyncio
import logging
from typing import Any

import msgspec

from heliograph_agent import clock
from heliograph_agent.config import AgentConfig
from heliograph_agent.effector import Effector, Result
from heliograph_agent.journal import Journal
from heliograph_agent.ledger import Ledger
from heliograph_agent.outbox import Signal
from heliograph_agent.records import CommandRecord, is_deeper
from heliograph_agent.talk import Talk
from heliograph_protocol.messages import Report, ReportedRung, ReportError

_MAX_DETAIL_BYTES = 64 * 1024
_MAX_CODE = 100
_MAX_MESSAGE = 2000
_log = logging.getLogger("heliograph_agent")


class Runner:
    """Takes commands off the ledger for as long as `run` lasts."""

    def __init__(
        self,
        config: AgentConfig,
        effector: Effector,
        ledger: Ledger,
        journal: Journal,
        talk: Talk,
        changed: Signal,
    ) -> None:
        self._config = config
        self._effector = effector
        self._ledger = ledger
        self._journal = journal
        self._talk = talk
        self._changed = changed

    async def run(self) -> None:
        """Settle what a crash interrupted, then run what comes. JournalError."""
        over = [record for record in self._ledger.interrupted() if self._settle_interrupted(record)]
        while True:
            record = self._ledger.begin_next()
            # One commit for the end of the last command and the beginning of this one.
            await self._journal.commit()
            for ended in over:
                self._ledger.saved(ended)
                self._talk.tell(ended)
            over = []
            if record is None:
                if not self._ledger.waiting:
                    await self._changed.wait()
                continue
            await self._run(record)
            over = [record]

    async def _run(self, record: CommandRecord) -> None:
        if record.stage != "started":
            return
        if self._ledger.expired(record):  # while the disk was busy
            self._ledger.expire(record)
            return
        # Handed out anew, perhaps because all its lines are lost.
        if self._ledger.damaged and self._happened(record):
            self._ledger.finish(record, report_of(record.id, Result(ok=True)))
            return
        lasting = asyncio.get_running_loop().call_later(self._config.running_after, self._talk.tell_running, record)
        try:
            await self._execute(record)
        finally:
            lasting.cancel()

    async def _execute(self, record: CommandRecord) -> None:
        """Let the effect happen. When `run` is cancelled meanwhile, an effect that ends soon still counts."""
        effect = asyncio.ensure_future(self._effect(record))
        try:
            await asyncio.shield(effect)
        except asyncio.CancelledError:
            if effect.cancelled():  # by itself
                self._settle_failed(record, "CancelledError")
                return
            try:
                await asyncio.wait({effect}, timeout=self._config.grace)
            finally:  # whoever cancels again gets no patience, and no effect that goes on beside what runs next
                effect.cancel()
                await asyncio.gather(effect, return_exceptions=True)
            raise

    async def _effect(self, record: CommandRecord) -> None:
        try:
            result = await self._effector.execute(record.id, record.type, record.params)
            report = report_of(record.id, result)
        except Exception as error:  # noqa: BLE001 - the outcome must be told, whatever it was
            # Its text may hold a secret.
            _log.warning("the effector failed with %s", type(error).__name__)
            self._settle_failed(record, type(error).__name__)
        else:
            self._ledger.finish(record, report)

    def _settle_failed(self, record: CommandRecord, name: str) -> None:
        happened = self._happened(record)
        if happened:
            self._ledger.finish(record, report_of(record.id, Result(ok=True)))
        elif happened is None:
            self._ledger.fail(record, "OUTCOME_UNKNOWN", f"The device failed with {name}; it cannot tell the outcome.")
        else:
            self._ledger.fail(record, "EFFECTOR_ERROR", f"The device failed with {name}; nothing was done.")

    def _settle_interrupted(self, record: CommandRecord) -> bool:
        """True if the command is over; False if it is certain that nothing happened, so that it may still run."""
        happened = self._happened(record)
        if happened:
            self._ledger.finish(record, report_of(record.id, Result(ok=True)))
        elif happened is None:
            cause = "The journal has lost a line" if record.doubtful else "The agent was stopped while the command ran"
            self._ledger.fail(record, "OUTCOME_UNKNOWN", f"{cause}; nobody can tell the outcome.")
        else:
            self._ledger.begin_again(record)
            return False
        return True

    def _happened(self, record: CommandRecord) -> bool | None:
        try:
            return self._effector.already_executed(record.id)
        except Exception as error:  # noqa: BLE001 - then nobody can tell
            _log.warning("the effector cannot tell an outcome: %s", type(error).__name__)
            return None


def report_of(command_id: str, result: Result) -> Report:
    """The report of a result, within the limits of a message and as the server will read it.

    Raises msgspec.ValidationError, TypeError or AttributeError for a result that is none.
    """
    rung: ReportedRung = "succeeded" if result.ok else "failed"
    error = None
    if result.deferred:
        rung = "deferred"
    if rung == "failed" or (rung == "deferred" and result.code):
        code, message = _unicode(result.code or "FAILED"), _unicode(result.message)
        error = ReportError(code=code[:_MAX_CODE], message=message[:_MAX_MESSAGE])
    report = Report(
        command_id=command_id,
        rung=rung,
        at=clock.rfc3339(clock.wall()),
        error=error,
        detail=None if result.detail is None else _carried(result.detail),
        retry_after_seconds=result.retry_after if rung == "deferred" else None,
    )
    return msgspec.json.decode(msgspec.json.encode(report), type=Report)


def _unicode(text: str) -> str:
    """Text without lone surrogates, as which Python gives the bytes of, say, a file's name."""
    return text.encode(errors="replace").decode()


def _carried(detail: dict[str, Any]) -> dict[str, Any]:
    """A detail as a message carries it, or what is said in its place."""
    try:
        data = msgspec.json.encode(detail)
        plain: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
    except (TypeError, ValueError, RecursionError):  # the last one also for one that holds itself
        return {"omitted": "not JSON"}
    if len(data) > _MAX_DETAIL_BYTES:
        return {"omitted": f"{len(data)} bytes"}
    return {"omitted": "nested too deep"} if is_deeper(plain) else plain
