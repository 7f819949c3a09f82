"""What an agent writes is kept and shown, so it must not give away what it was trusted with."""

from typing import Any

import msgspec

from heliograph.app.services import Services
from heliograph.domain.command_types import redact, secrets_in, without_secrets
from heliograph.domain.ladder import Command
from heliograph_protocol.messages import Report, ReportError


def without_words(s: Services, command: Command, report: Report) -> Report:
    """A report without secret members, and without the command's own secrets as long as we still have them."""
    if report.detail is None and report.error is None:
        return report
    known = secrets_in(s.open_params(command) or {}) if command.secret is not None else []
    detail, error = report.detail, report.error
    if detail is not None:
        try:
            detail = _redacted(without_secrets(detail), known)
        except RecursionError:
            detail = {"omitted": "nested too deep"}
    if error is not None:
        error = ReportError(code=redact(error.code, known), message=redact(error.message, known))
    return msgspec.structs.replace(report, detail=detail, error=error)


def _redacted(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, dict):
        return {redact(name, secrets): _redacted(member, secrets) for name, member in value.items()}
    if isinstance(value, list):
        return [_redacted(item, secrets) for item in value]
    return redact(value, secrets) if isinstance(value, str) else value
