"""The agent's command line. Exit codes: 0 ended by a signal, 1 the journal cannot be used, 2 wrong use."""

import argparse
import asyncio
import logging
import os
import signal
import ssl
import sys
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from heliograph_agent.agent import Agent
from heliograph_agent.config import AgentConfig, Broker, LineKind
from heliograph_agent.effector import SimulatedEffector
from heliograph_agent.journal import JournalError
from heliograph_agent.lines import Misconfigured

BROKER_PASSWORD_VARIABLE = "HELIOGRAPH_AGENT_BROKER_PASSWORD"  # noqa: S105 - a name
SECRET_VARIABLE = "HELIOGRAPH_AGENT_SECRET"  # noqa: S105 - a name

_STATE_DIR_HELP = (
    "where the journal is kept, one directory for each device; by default heliograph-agent in $XDG_STATE_HOME "
    "or ~/.local/state"
)

_EARLIER_DEFAULT = Path("agent-state")
_NO_DEVICE = (
    "this machine has no device to act on: say --simulate to run commands in a sandbox that only prints them, "
    "or embed heliograph_agent.Agent with an Effector of your own"
)


_log = logging.getLogger("heliograph_agent")


class UsageError(Exception):
    """The agent cannot start like this; the text says what to do."""


def run(
    server: str,
    secret_file: Path | None,
    app: str,
    state_dir: Path | None,
    line: LineKind,
    *,
    simulate: bool,
    ca_file: Path | None = None,
    broker: str | None = None,
) -> int:
    """Run one agent until SIGINT or SIGTERM; returns the exit code. Without `secret_file` the environment has it.

    Without `state_dir` it is the user's, see `default_state_dir`.
    """
    if not simulate:
        return _complain(_NO_DEVICE, 2)
    try:
        state_dir = state_dir or default_state_dir()
        state_dir.mkdir(parents=True, exist_ok=True)
        config = AgentConfig(
            server_url=server,
            secret=_secret(secret_file),
            state_path=state_dir / f"{_file_name(app)}.journal",
            app=app,
            line=line,
            broker=_broker(broker) if broker else None,
            use_proxy=True,
            ssl_context=ssl.create_default_context(cafile=str(ca_file)) if ca_file else None,
        )
        agent = Agent(config, SimulatedEffector(state_dir / f"{_file_name(app)}.simulated"))
    except (UsageError, ValueError, OSError) as error:
        return _complain(str(error), 2)
    try:
        asyncio.run(_until_signal(agent))
    except JournalError as error:
        return _complain(str(error), 1)
    except Misconfigured as error:
        apps = "mdmAgent, setupAssistant, remoteSupport, kioskLauncher"
        return _complain(f"{error}: it does not take this agent. Does it know the app {app!r} ({apps})?", 2)
    _log.info("%s: stopped", app)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Parse `arguments` (the process's own by default) and run; returns the exit code."""
    parser = argparse.ArgumentParser(prog="heliograph_agent", description="Reference device agent of Heliograph.")
    parser.add_argument("--server", required=True, help="address of the server, for example https://mdm.example")
    parser.add_argument("--secret-file", type=Path, help=f"file with the device's secret; otherwise ${SECRET_VARIABLE}")
    parser.add_argument("--app", default="mdmAgent", help="the app that this agent speaks for (default: mdmAgent)")
    parser.add_argument("--state-dir", type=Path, help=_STATE_DIR_HELP)
    parser.add_argument("--line", choices=["websocket", "poll", "mqtt", "none"], default="websocket")
    broker_help = f"with --line mqtt: mqtts://host/TOPIC-PREFIX; ${BROKER_PASSWORD_VARIABLE} has the device's password"
    parser.add_argument("--broker", help=broker_help)
    parser.add_argument("--ca-file", type=Path, help="certificate authorities to trust instead of the system's (PEM)")
    parser.add_argument("--simulate", action="store_true", help="print and note commands instead of acting on a device")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    return run(
        given.server,
        given.secret_file,
        given.app,
        given.state_dir,
        given.line,
        simulate=given.simulate,
        ca_file=given.ca_file,
        broker=given.broker,
    )


def default_state_dir() -> Path:
    """The user's directory for the journal, the same wherever the agent is started: a second one would know nothing.

    `agent-state` in the current directory, the default of earlier versions, is used on where it exists. Raises
    UsageError for a user without a home.
    """
    if _EARLIER_DEFAULT.is_dir():
        earlier = _EARLIER_DEFAULT.resolve()
        _log.warning("using %s, as earlier versions did; say --state-dir to start it from elsewhere", earlier)
        return earlier
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    try:
        return (base if base.is_absolute() else Path.home() / ".local" / "state") / "heliograph-agent"
    except RuntimeError:
        raise UsageError("this user has no home directory: say --state-dir") from None


async def _until_signal(agent: Agent) -> None:
    running = asyncio.ensure_future(agent.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, running.cancel)
    await asyncio.wait({running})
    if not running.cancelled():
        running.result()


def _broker(url: str) -> Broker:
    parts = urlsplit(url)
    password = os.environ.get(BROKER_PASSWORD_VARIABLE)
    prefix = parts.path.strip("/") or "heliograph"
    return Broker(url=urlunsplit((parts.scheme, parts.netloc, "", "", "")), password=password, topic_prefix=prefix)


def _secret(path: Path | None) -> str:
    try:
        secret = path.read_text(encoding="utf-8").strip() if path else os.environ.get(SECRET_VARIABLE, "").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"--secret-file: cannot read {path}: {reason}") from None
    if not secret:
        raise UsageError(f"no secret: give --secret-file, or set {SECRET_VARIABLE}")
    return secret


def _file_name(app: str) -> str:
    if not app or not all(letter.isalnum() or letter in "-_." for letter in app) or app.startswith("."):
        raise UsageError("the app's name may have letters, digits, '-', '_' and '.'")
    return app


def _complain(text: str, code: int) -> int:
    sys.stderr.write(f"heliograph agent: {text}\n")
    return code
