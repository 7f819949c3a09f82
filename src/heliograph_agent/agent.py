"""The agent: journal, runner and line, put together and kept alive."""

import asyncio
import contextlib
import logging
import random
from contextlib import AsyncExitStack

import httpx2
from websockets.exceptions import WebSocketException

from heliograph_agent.config import AgentConfig
from heliograph_agent.effector import Effector
from heliograph_agent.journal import Journal, JournalError, JournalInUse
from heliograph_agent.ledger import Ledger
from heliograph_agent.lines import (
    Misconfigured,
    Refused,
    TryLater,
    check_in_when_due,
    hold_poll,
    hold_websocket,
    http_client,
    race,
    register,
)
from heliograph_agent.mqtt import keep_subscribed
from heliograph_agent.outbox import Signal
from heliograph_agent.runner import Runner
from heliograph_agent.talk import LineError, Talk
from heliograph_protocol.messages import PushOffer

_DAY = 86400.0
REGISTER_AGAIN = 7 * _DAY  # seconds; addresses that nobody has registered for months are dropped by the server
_log = logging.getLogger("heliograph_agent")
# Whatever a broken, absent or strange server can cause; OSError includes timeouts and refused connections.
_LINE_FAULTS = (LineError, OSError, httpx2.HTTPError, WebSocketException)


class Agent:
    """One app on one device. Costs three tasks, one file descriptor for the journal and one connection.

    `http` may be shared by many agents (`lines.http_client` makes a fitting one); without it the agent makes its own.
    """

    def __init__(self, config: AgentConfig, effector: Effector, *, http: httpx2.AsyncClient | None = None) -> None:
        self._config = config
        self._effector = effector
        self._http = http
        self._changed = Signal()
        self._ready = asyncio.Event()
        self._woken = asyncio.Event()
        self._talk: Talk | None = None
        self._journal_failed = False
        self._met = False
        self._device_id = ""  # once registered

    async def run(self) -> None:
        """Register, then live until cancelled.

        Raises JournalError if the journal cannot be opened at first, Misconfigured if the server does not take what
        the agent says of itself (an app that it does not know) at first.
        """
        try:
            await self._live()
        except JournalInUse:
            raise
        except JournalError:
            if self._talk is None:
                raise
            await self._start_over()
        finally:
            self._talk = None
            self._ready.clear()

    async def receive(self, offer: PushOffer) -> None:
        """Take a push that came through another provider: returns once it is journalled and shown.

        The acknowledgement and the claim travel in a check-in that is due at once. Waits for `run` to open the
        journal; JournalError if the push could not be put down.
        """
        await self._ready.wait()
        if self._talk is not None:
            await self._talk.receive(offer)
            self._woken.set()

    def wake(self) -> None:
        """Check in now, even in the middle of a back-off. Without `run`, nothing."""
        self._woken.set()
        if self._talk is not None:
            self._talk.wake()

    async def _start_over(self) -> None:
        """After a fault of the disk, memory and file may differ: only what can be read back counts."""
        attempt = 0
        while True:
            _log.warning("the journal has failed; opening it again")
            await asyncio.sleep(self._backoff(attempt))
            attempt += 1
            self._journal_failed = True
            try:
                await self._live()
            except JournalError:
                continue

    async def _live(self) -> None:
        config = self._config
        ledger = Ledger(config.keep_days * _DAY, config.keep_entries)
        journal = Journal(config.state_path, ledger.snapshot, durable=config.durable)
        talk = Talk(config, self._effector, ledger, journal, self._changed, self._say_connected)
        try:
            must_rewrite = ledger.load(journal, journal.open())
            if journal.damaged:
                _log.warning("the journal %s has %d damaged lines", config.state_path, journal.damaged)
            if must_rewrite or journal.damaged or self._journal_failed or not journal.is_named:
                await journal.rewrite()
                self._journal_failed = False
            await talk.resume()
            self._talk = talk
            self._ready.set()
            runner = Runner(config, self._effector, ledger, journal, talk, self._changed)
            await race(runner.run(), self._keep_line(talk))
        finally:
            await journal.close()

    async def _keep_line(self, talk: Talk) -> None:
        """Hold a line to the server, and another one whenever it breaks."""
        attempt, told = 0, ""
        loop, register_at, ever_registered = asyncio.get_running_loop(), 0.0, False
        async with AsyncExitStack() as stack:
            http = self._http
            if http is None:
                http = await stack.enter_async_context(http_client(self._config))
            while True:
                talk.reconnect()
                try:
                    if loop.time() >= register_at:
                        answer = await register(self._config, http)
                        # Whatever is said once, perhaps by nobody who had to say it, the server is asked again.
                        talk.interval = min(max(1.0, answer.check_in_seconds), _DAY)
                        self._device_id = answer.device_id
                        register_at, ever_registered = loop.time() + REGISTER_AGAIN, True
                    await self._hold_until(register_at, talk, http)
                except _LINE_FAULTS as error:
                    if isinstance(error, Misconfigured) and not ever_registered:
                        raise
                    attempt = 0 if talk.answered else attempt + 1
                    # What the server knows of this agent may be what it stumbles over.
                    register_at = 0.0 if isinstance(error, LineError) else register_at
                    told = self._say(error, "" if talk.answered else told)
                    await self._pause(self._delay(error, attempt))

    async def _hold_until(self, at: float, talk: Talk, http: httpx2.AsyncClient) -> None:
        """Hold the line until it breaks, or until a time of the event loop's."""
        turn = asyncio.timeout_at(at)
        try:
            async with turn:
                await self._hold(talk, http)
        except TimeoutError:
            if not turn.expired():
                raise

    async def _hold(self, talk: Talk, http: httpx2.AsyncClient) -> None:
        if self._config.line == "websocket":
            await hold_websocket(self._config, talk)
        elif self._config.line == "poll":
            await hold_poll(self._config, talk, http)
        elif self._config.line == "mqtt":
            check_ins = check_in_when_due(self._config, talk, http)
            await race(check_ins, keep_subscribed(self._config, self._device_id, talk))
        else:
            await check_in_when_due(self._config, talk, http)

    def _say_connected(self) -> None:
        _log.info("%s: connected to %s%s", self._config.app, self._config.server_url, " again" if self._met else "")
        self._met = True

    def _say(self, error: Exception, told: str) -> str:
        """Log a fault, but not the same again until the line has worked; returns what was logged last."""
        kind = type(error).__name__
        if kind != told:
            text = str(error) if isinstance(error, LineError) else kind
            _log.warning("%s: no line to the server (%s); trying again", self._config.app, text)
        return kind

    def _backoff(self, attempt: int) -> float:
        """Full jitter: agents that lost the same server must not come back at the same time."""
        ceiling = min(self._config.backoff_cap, self._config.backoff_base * 2 ** min(attempt, 30))
        return random.uniform(0.0, ceiling)  # noqa: S311 - spreads load, no secret

    def _delay(self, error: Exception, attempt: int) -> float:
        if isinstance(error, Refused):
            return random.uniform(0.5, 1.0) * self._config.refused_cap  # noqa: S311
        return self._backoff(attempt) + (error.seconds if isinstance(error, TryLater) else 0.0)

    async def _pause(self, seconds: float) -> None:
        self._woken.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
