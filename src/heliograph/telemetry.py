"""Logging: structured, one line an event, to standard error. Tokens, keys and passwords never reach it."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_SECRET_NAMES = ("authorization", "secret", "password", "token", "api_key", "apikey", "credentials", "activation")
_QUIET = ("httpx2", "httpcore2", "uvicorn.access", "websockets", "google", "asyncio")


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Last line of defence: a value whose name speaks of a secret is not written."""
    for name in event:
        if any(part in name.lower() for part in _SECRET_NAMES):
            event[name] = "[removed]"
    return event


def configure_logging(level: str, form: str) -> None:
    """Set up structlog and the standard library's logging. `form`: auto (text on a terminal), json or text."""
    as_text = form == "text" or (form == "auto" and sys.stderr.isatty())
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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in _QUIET:
        # Their lines may hold addresses with keys in them (Pushy's key travels in the query).
        logging.getLogger(name).setLevel(logging.WARNING)
