"""What carries the conversation: a WebSocket, or HTTP with or without a long poll."""

import asyncio
import logging
import ssl
from collections.abc import Coroutine
from functools import cache
from typing import Any, TypeVar
from urllib.parse import urlencode

import httpx2
import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from heliograph_agent import clock
from heliograph_agent.config import AgentConfig
from heliograph_agent.records import is_deeper
from heliograph_agent.talk import LineError, Talk
from heliograph_protocol.messages import (
    CHECK_IN_PATH,
    CLOSE_REFUSED,
    CLOSE_REPLACED,
    LINE_PATH,
    MAX_MESSAGE_BYTES,
    REGISTER_PATH,
    CheckIn,
    Orders,
    Refusal,
    Register,
    Registered,
    Target,
)

_IDLE_PAUSE = 1.0  # seconds between polls that are answered at once and bring nothing
_REFUSALS = {1008, CLOSE_REFUSED, 4403}  # WebSocket close codes
_REPLACED_PAUSE = 30.0  # seconds: two agents with one secret must not take the line from each other all the time
_T = TypeVar("_T")
# What decoding raises; text that is not UTF-8, and what is nested too deep, are none of msgspec's own.
UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)

# At DEBUG the library would write headers and frames, and with them secrets.
_wire_log = logging.getLogger("heliograph_agent.wire")
_wire_log.setLevel(logging.WARNING)


class Refused(LineError):
    """The server does not accept this secret (401, 403): only an operator can help."""


class Misconfigured(LineError):
    """The server refuses what the agent says of itself (400): it would refuse it again."""


class TryLater(LineError):
    """The server asks to be left alone for `seconds`."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


@cache
def system_authorities() -> ssl.SSLContext:
    """One TLS context for all agents of the process: it takes long to build."""
    return ssl.create_default_context()


def http_client(config: AgentConfig) -> httpx2.AsyncClient:
    """A client that an agent can use; many agents may share one."""
    return httpx2.AsyncClient(
        verify=config.ssl_context or system_authorities(),
        trust_env=config.use_proxy,
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
    )


async def register(config: AgentConfig, http: httpx2.AsyncClient) -> Registered:
    """Tell the server what is installed here. LineError, Refused, Misconfigured, httpx2.HTTPError."""
    # A line that is held is an address by itself; without one the app is reached as the caller says.
    held = {"none": [], "mqtt": [Target(provider="mqtt")]}.get(config.line, [Target(provider="builtin")])
    message = Register(app=config.app, agent_version=config.agent_version, targets=config.targets or held)
    # With a WebSocket to follow, an idle HTTP connection would only cost both sides.
    headers = {"Connection": "close"} if config.line == "websocket" else {}
    query = {"app": config.app}
    body = await _post(config, http, REGISTER_PATH, message, query, timeout=config.answer_timeout, headers=headers)
    return _decode(body, Registered)


async def hold_websocket(config: AgentConfig, talk: Talk) -> None:
    """Talk over a WebSocket until it breaks."""
    url = f"{_base(config).replace('http', 'ws', 1)}{LINE_PATH}?{urlencode(_query(config, talk))}"
    try:
        async with _Connect(
            url,
            additional_headers={"Authorization": f"Bearer {config.secret}"},
            ssl=(config.ssl_context or system_authorities()) if url.startswith("wss:") else None,
            proxy=True if config.use_proxy else None,
            compression=None,
            max_size=MAX_MESSAGE_BYTES,
            open_timeout=config.answer_timeout,
            close_timeout=1.0,
            ping_interval=config.ping,
            logger=_wire_log,
        ) as line:
            try:
                await race(_read(line, talk), _write(line, talk))
            finally:
                # Otherwise the library would tell the server of an internal error.
                await line.close(1001)
    except InvalidStatus as error:
        response = error.response
        raise _refusal(response.status_code, bytes(response.body or b""), response.headers.get("Retry-After")) from None
    except ConnectionClosed as error:
        if error.rcvd is not None and error.rcvd.code in _REFUSALS:
            raise Refused(f"closed with {error.rcvd.code}") from None
        if error.rcvd is not None and error.rcvd.code == CLOSE_REPLACED:
            raise TryLater("another agent with this secret took the line", _REPLACED_PAUSE) from None
        raise


class _Connect(connect):
    """A line goes where it was meant to: neither it nor what is asked over HTTP is sent elsewhere by an answer."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Leave it at the answer."""
        return exc


async def hold_poll(config: AgentConfig, talk: Talk, http: httpx2.AsyncClient) -> None:
    """Talk over a long poll, and a second request beside it for what cannot wait, until one fails."""
    await race(_poll(config, talk, http), check_in_when_due(config, talk, http))


async def check_in_when_due(config: AgentConfig, talk: Talk, http: httpx2.AsyncClient) -> None:
    """Check in over HTTP whenever there is a reason, until one fails."""
    while True:
        await _check_in(config, talk, http, await talk.next_message())


async def race(*work: Coroutine[Any, Any, None]) -> None:
    """Run all until the first ends, cancel the others, and end as the first did."""
    tasks = [asyncio.ensure_future(part) for part in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def _read(line: ClientConnection, talk: Talk) -> None:
    while True:
        frame = await line.recv(decode=False)
        at = clock.elapsed()
        await talk.handle(_orders(frame), at, ordered=True)


async def _write(line: ClientConnection, talk: Talk) -> None:
    while True:
        message = await talk.next_message()
        await line.send(msgspec.json.encode(message), text=True)


async def _poll(config: AgentConfig, talk: Talk, http: httpx2.AsyncClient) -> None:
    idle = 0
    while True:
        message = await talk.next_poll()
        began = clock.elapsed()
        new = await _check_in(config, talk, http, message)
        idle = 0 if new or clock.elapsed() - began >= _IDLE_PAUSE else idle + 1
        # One such answer is usual: commands wait, and the other request claims them. Two: they cannot be had now.
        if idle > 1:
            await asyncio.sleep(_IDLE_PAUSE)


async def _check_in(config: AgentConfig, talk: Talk, http: httpx2.AsyncClient, message: CheckIn) -> bool:
    timeout = message.wait_seconds + config.answer_timeout
    body = await _post(config, http, CHECK_IN_PATH, message, _query(config, talk), timeout=timeout)
    at = clock.elapsed()
    orders = _orders(body)
    if orders.seq != message.seq:
        raise LineError("the server answered another check-in")
    return await talk.handle(orders, at, ordered=False)


async def _post(
    config: AgentConfig,
    http: httpx2.AsyncClient,
    path: str,
    message: msgspec.Struct,
    query: dict[str, str],
    *,
    timeout: float,
    headers: dict[str, str] | None = None,
) -> bytes:
    request = http.stream(
        "POST",
        _base(config) + path,
        params=query,
        content=msgspec.json.encode(message),
        headers={
            "Authorization": f"Bearer {config.secret}",
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            **(headers or {}),
        },
        timeout=timeout,
    )
    async with asyncio.timeout(timeout), request as response:  # the client's own bounds each step, of which any number
        body = await _body(response)
        if response.status_code != 200:
            raise _refusal(response.status_code, body or b"", response.headers.get("Retry-After"))
    if body is None:
        raise LineError("the server's answer is too long")
    return body


async def _body(response: httpx2.Response) -> bytes | None:
    """The body of an answer; None where it is longer than a message may be."""
    body = b""
    async for part in response.aiter_raw():
        body += part
        if len(body) > MAX_MESSAGE_BYTES:
            return None
    return body


def _query(config: AgentConfig, talk: Talk) -> dict[str, str]:
    return {"app": config.app, "journal": talk.journal_name}


def _refusal(status: int, body: bytes, retry_after: str | None) -> LineError:
    try:
        code = msgspec.json.decode(body, type=Refusal).code[:100]
    except UNREADABLE:
        code = ""
    text = f"the server answered {status} {code}".rstrip()
    if status in {401, 403}:
        return Refused(text)
    if status == 400:
        return Misconfigured(text)
    if status in {429, 503} and retry_after is not None and retry_after.isdecimal():
        return TryLater(text, min(float(retry_after), 300.0))
    return LineError(text)


def _decode(data: bytes, shape: type[_T]) -> _T:
    try:
        return msgspec.json.decode(data, type=shape)
    except UNREADABLE:
        # The decoder's words may quote the frame.
        raise LineError("the server sent a frame that cannot be read") from None


def _orders(data: bytes) -> Orders:
    orders = _decode(data, Orders)
    if any(is_deeper(command.params) for command in orders.commands):
        raise LineError("the server sent a command that is nested too deep")
    return orders


def _base(config: AgentConfig) -> str:
    return config.server_url.rstrip("/")
