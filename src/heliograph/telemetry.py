"""Logging: structured, one line an event, to standard error. Tokens, keys and passwords never reach it."""

import logging
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, TextIO

import structlog

_SECRET_NAMES = ("authorization", "secret", "password", "token", "api_key", "apikey", "credentials", "activation")
_QUIET = ("httpx2", "httpcore2", "uvicorn.access", "websockets", "google", "asyncio")


class Unfailing:
    """A stream on which nobody depends: a line that cannot be written (the disk is full) is lost, and that is all."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """See TextIO."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """See TextIO."""
        with suppress(OSError):
            self._stream.flush()


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Last line of defence: a value whose name speaks of a secret is not written."""
    for name in event:
        if any(part in name.lower() for part in _SECRET_NAMES):
            event[name] = "[removed]"
    return event


def configure_logging(level: str, form: str) -> None:
    """Set up structlog and the standard library's logging. `form`: auto (text on a terminal), json or text."""
    as_text = form == "text" or (form == "auto" and sys.stderr.isatty())
    stream: Any = Unfailing(sys.stderr)
    renderer: Any = structlog.dev.ConsoleRenderer() if as_text else structlog.processors.JSONRenderer()
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping().get(level.upper(), 20)),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in _QUIET:
        # Their lines may hold addresses with keys in them (Pushy's key travels in the query).
        logging.getLogger(name).setLevel(logging.WARNING)
