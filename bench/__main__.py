"""`python -m bench [NAME …] [--json] [--quick]`; needs HELIOGRAPH_TEST_DATABASE (see `make bench`)."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import acknowledged, creates, fanout, fanout_live, push, push_fake, push_sygnal, world

TARGETS = {
    "creates": "≥ 0.9 x pgbench",
    "acknowledged": "≥ 730/s (2 x NanoMDM's best), check-in ratio ≤ 1.2",
    "fanout": "≥ 0.95 of the quota, p99 of the wait < 2,000 ms",
    "fanout-live": "≥ 0.95 of the quota, p99 of the wait < 2,000 ms",
    "push": "≤ 260 µs CPU a push through the whole path, a third of sygnal's",
}


async def _run(names: list[str], quick: bool, console: Console) -> dict[str, Any]:
    postgres = world.Postgres(os.environ["HELIOGRAPH_TEST_DATABASE"])
    rounds = 1 if quick else 3
    found: dict[str, Any] = {"load": os.getloadavg()[0], "cores": os.cpu_count()}
    with console.status("starting") as status:

        def say(text: str) -> None:
            status.update(text)

        if "creates" in names:
            found["creates"] = await creates.run(postgres, say, rounds)
            found["createsOnSqlite"] = await creates.run(None, say, rounds)
        if "acknowledged" in names:
            found["acknowledged"] = await acknowledged.run(postgres, say, rounds=rounds)
        if "fanout" in names:  # the same run each time: one is enough
            devices = fanout.DEVICES // 10 if quick else fanout.DEVICES
            found["fanout"] = await asyncio.to_thread(fanout.run, say, 1, devices)
        if "fanout-live" in names:
            async with postgres.database() as dsn:
                found["fanout-live"] = await asyncio.to_thread(
                    fanout_live.run, dsn, say, 30 if quick else fanout_live.SECONDS
                )
        if "push" in names:
            found |= await _pushes(postgres, say, rounds, quick)
    return found


async def _pushes(postgres: world.Postgres, say: push.Say, rounds: int, quick: bool) -> dict[str, Any]:
    count = push.PUSHES // 5 if quick else push.PUSHES
    return {f"push-{kind}": await push.run(postgres, kind, say, rounds, count) for kind in push_fake.PLATFORMS}


def _show(found: dict[str, Any], console: Console) -> None:
    console.print(f"load average before: {found['load']:.1f} on {found['cores']} cores")
    for name, result in found.items():
        if not isinstance(result, dict):
            continue
        target = TARGETS.get(name.partition("-")[0] if name.startswith("push-") else name)
        table = Table(title=f"{result['what']}  (target {target})" if target else result["what"])
        table.add_column("")
        for number in range(1, len(result["rounds"]) + 1):
            table.add_column(f"round {number}", justify="right")
        table.add_column("median", justify="right")
        for key, median in result["median"].items():
            table.add_row(key, *(_figure(r[key]) for r in result["rounds"]), _figure(median))
        console.print(table)
        if name.startswith("push-") and "sygnalCpuMicros" not in result["median"]:
            console.print(f"sygnal was not measured: {push_sygnal.why_not(name.removeprefix('push-'))}")
        if "checkIn" in result:
            console.print(f"check-in with {acknowledged.HISTORY:,} finished commands: {result['checkIn']}")
        if result.get("postgres"):
            console.print("PostgreSQL: " + ", ".join(f"{k}={v}" for k, v in result["postgres"].items()))


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="|".join(TARGETS))
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help="one round each")
    options = parser.parse_args()
    names = options.names or list(TARGETS)
    if set(names) - set(TARGETS):
        parser.error(f"the benchmarks are: {', '.join(TARGETS)}")
    if "HELIOGRAPH_TEST_DATABASE" not in os.environ:
        parser.error("needs HELIOGRAPH_TEST_DATABASE=postgresql://…; `make bench` starts one")
    try:
        push_sygnal.checkout()
    except FileNotFoundError as error:
        parser.error(str(error))
    console = Console(stderr=options.json)
    try:
        found = asyncio.run(_run(names, options.quick, console))
    except KeyboardInterrupt:
        sys.exit(130)
    if options.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    else:
        _show(found, console)


if __name__ == "__main__":
    main()
