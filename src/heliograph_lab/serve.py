"""One process with everything: control API, AMAPI, Pushy, Pub/Sub, APNs, FCM and the simulated devices."""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import uvloop

from heliograph_lab.amapi import AmapiEmulator
from heliograph_lab.amapi.side import add_routes
from heliograph_lab.apns import ApnsEmulator
from heliograph_lab.apns.control import ApnsControl
from heliograph_lab.control import control_app
from heliograph_lab.devices import Devices
from heliograph_lab.fcm import FcmEmulator
from heliograph_lab.fcm.control import FcmControl
from heliograph_lab.fleet import Fleet
from heliograph_lab.http2 import Authority
from heliograph_lab.http2.control import ConnectionControl
from heliograph_lab.kernel import Kernel, StateDirInUseError
from heliograph_lab.parent import NotOurParentError, end_with
from heliograph_lab.ports import bind_all
from heliograph_lab.pubsub import NotificationControl, Publisher, PubsubEmulator
from heliograph_lab.pushy import PushyEmulator
from heliograph_lab.service import ASGIApp
from heliograph_lab.transport import Listener, ListenError, LoopbackNames, quiet_end, require_loopback
from heliograph_lab.web import Reply, Request

_SERVICES = ("control", "amapi", "pushy", "pubsub", "apns", "fcm")
_IN_USE = 6  # as `heliograph --help` has it
_HANDOVER = 2.0  # seconds that a lab whose parent was killed may take to let go of the directory


@dataclass(frozen=True, kw_only=True)
class LabOptions:
    """What the command line says. Port 0 = the port of the last start, or any free one."""

    state_dir: Path
    host: str = "127.0.0.1"
    control_port: int = 0
    amapi_port: int = 0
    pushy_port: int = 0
    pubsub_port: int = 0
    apns_port: int = 0
    fcm_port: int = 0
    ready_file: Path | None = None
    with_parent: int | None = None
    announce: bool = False


class Lab:
    """The whole lab, to be run in any event loop. `urls` (and `caPath`) is complete once `start` has returned."""

    def __init__(self, options: LabOptions) -> None:
        require_loopback(options.host)
        self._options = options
        self.kernel = Kernel(options.state_dir)
        self.fleet = Fleet(self.kernel)
        self.pushy = PushyEmulator(self.kernel)
        self.pubsub = PubsubEmulator(self.kernel)
        self.publisher = Publisher(self.kernel, self.pubsub)
        self.amapi = AmapiEmulator(self.kernel, self.fleet, outlet=self.publisher)
        self.authority = Authority(options.state_dir)
        self.apns = ApnsEmulator(self.kernel, self.authority)
        self.fcm = FcmEmulator(self.kernel, self.authority)
        self.devices = Devices(self.kernel, self.fleet, self.pushy)
        self.urls: dict[str, str] = {}
        self._listeners: list[Listener] = []

    async def start(self) -> None:
        """Listen, then bring the devices up. ListenError when a port is taken; then nothing is left running."""
        options = self._options
        wanted = {service: getattr(options, f"{service}_port") for service in _SERVICES}
        try:
            sockets = await bind_all(self.kernel, options.host, wanted)
        except BaseException:
            self.kernel.close()
            raise
        control = control_app(self.kernel, self.fleet, self.devices.settled)
        control.add("GET", "/addresses", self._addresses)
        add_routes(control, self.amapi)
        NotificationControl(self.pubsub, self.publisher, self.amapi).add_to(control)
        ApnsControl(self.apns, self.authority).add_to(control)
        FcmControl(self.fcm).add_to(control)
        ConnectionControl({"apns": self.apns.server, "fcm": self.fcm.server}).add_to(control)
        apps: dict[str, ASGIApp] = {
            "control": LoopbackNames(control),
            "amapi": self.amapi.app,
            "pushy": self.pushy.app,
            "pubsub": self.pubsub.app,
        }
        await self.pushy.start()
        await self.pubsub.start()
        await self.publisher.start(self.amapi)
        await self.amapi.start()
        for service, app in apps.items():
            listener = Listener(app, sockets[service])
            self._listeners.append(listener)
            await listener.start()
            self.urls[f"{service}Url"] = listener.url
        for service, server in (("apns", self.apns.server), ("fcm", self.fcm.server)):
            await server.start(sockets[service])
            self.urls[f"{service}Url"] = server.url
        self.urls["caPath"] = str(self.authority.ca_path.absolute())
        await self.devices.start()

    async def _addresses(self, _request: Request) -> Reply:
        return Reply(self.urls)

    async def stop(self) -> None:
        """End everything in order; what is on disk is complete."""
        await asyncio.gather(*(listener.stop() for listener in self._listeners))
        await self.devices.stop()
        await self.apns.stop()
        await self.fcm.stop()
        await self.amapi.stop()
        await self.publisher.stop()
        await self.pubsub.stop()
        await self.pushy.stop()
        self.kernel.close()


async def run(options: LabOptions) -> None:
    """Serve until SIGINT or SIGTERM."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    if options.with_parent is not None:
        end_with(options.with_parent, loop)
    lab = await _open(options)
    if options.ready_file is not None:
        # One of an earlier start would mislead whoever waits for it; not before the directory is ours.
        options.ready_file.unlink(missing_ok=True)
    await lab.start()
    if options.ready_file is not None:
        write_ready_file(options.ready_file, {**lab.urls, "pid": os.getpid()})
    if options.announce:
        announce(lab.urls)
    await ended.wait()
    await lab.stop()


def announce(urls: dict[str, str]) -> None:
    """Say on standard output what is where; a reader that has gone away is no reason to end."""
    named = {
        "Android Management API": "amapiUrl",
        "Pub/Sub": "pubsubUrl",
        "Pushy": "pushyUrl",
        "APNs": "apnsUrl",
        "FCM": "fcmUrl",
        "their CA certificate": "caPath",
        "control API": "controlUrl",
    }
    lines = [f"  {name:24}{urls[key]}" for name, key in named.items()]
    with contextlib.suppress(OSError):
        sys.stdout.write("\n".join(["The lab is up; Ctrl-C ends it.", *lines]) + "\n")
        sys.stdout.flush()


async def _open(options: LabOptions) -> Lab:
    patience = time.monotonic() + _HANDOVER
    while True:
        try:
            return Lab(options)
        except StateDirInUseError:
            if time.monotonic() >= patience:
                raise
            await asyncio.sleep(0.05)


def write_ready_file(path: Path, content: dict[str, str | int]) -> None:
    """Write it whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_bytes(msgspec.json.encode(content) + b"\n")
    fresh.replace(path)


def parse(arguments: list[str] | None = None) -> LabOptions:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m heliograph_lab", description=__doc__)
    parser.add_argument("--state-dir", type=Path, required=True, help="where the lab keeps everything it knows")
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address")
    for service in _SERVICES:
        parser.add_argument(f"--{service}-port", type=int, default=0, help="0 = that of the last start, or any")
    parser.add_argument("--ready-file", type=Path, help="written once everything listens")
    parser.add_argument("--announce", action="store_true", help="say what is where, once everything listens")
    parser.add_argument("--with-parent", type=int, metavar="PID", help="end when this process, the parent, ends")
    return LabOptions(**vars(parser.parse_args(arguments)))


def main(arguments: list[str] | None = None) -> int:
    """Run the lab; the exit code is 0 after SIGINT or SIGTERM, 1 when it could not start, 6 where another lab runs."""
    options = parse(arguments)
    os.umask(0o077)
    logging.basicConfig(level=logging.WARNING, format="heliograph-lab: %(message)s")
    quiet_end()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(options))
    except (ListenError, StateDirInUseError, NotOurParentError) as error:
        sys.stderr.write(f"heliograph-lab: {error}\n")
        return _IN_USE if isinstance(error, StateDirInUseError) else 1
    return 0
