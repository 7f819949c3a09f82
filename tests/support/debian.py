"""Programs that tests need and pip does not have: the machine's own, else unpacked from Debian's packages.

`ensure("mosquitto", "mosquitto")` changes nothing on the machine and needs no root: what the package lacks here is
fetched with `apt-get download` and unpacked into .cache/debian/<package>.
"""

from __future__ import annotations

import fcntl
import functools
import os
import re
import shutil
import subprocess
from pathlib import Path

CACHE = Path(__file__).parent.parent.parent / ".cache/debian"
PLACES = ("/usr/sbin", "/sbin")  # besides PATH, which holds them for root alone
FOLDERS = ("usr/sbin", "usr/bin", "sbin", "bin")
# A program unpacked here finds its libraries here, too; `exec` keeps it the same process, so that signals reach it.
STARTER = """#!/bin/sh
export LD_LIBRARY_PATH="{libraries}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
exec "{program}" "$@"
"""


@functools.cache
def ensure(package: str, program: str) -> str:
    """The path of a program. RuntimeError says what to install where neither way works."""
    installed = shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *PLACES]))
    if installed:
        return installed
    CACHE.mkdir(parents=True, exist_ok=True)
    starter = CACHE / package / f"{program}.sh"
    # Test processes may run side by side; only one fetches.
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not starter.exists():
            try:
                _unpack(package, program, starter)
            except (OSError, RuntimeError) as error:
                raise RuntimeError(
                    f"found no {program}, and could not fetch it; install Debian's package {package} "
                    f"(as root: apt-get update && apt-get install {package}).\n{error}"
                ) from None
    return str(starter)


def _unpack(package: str, program: str, starter: Path) -> None:
    home = starter.parent
    shutil.rmtree(home, ignore_errors=True)
    (home / "fetched").mkdir(parents=True)
    try:
        _fetch(package, home / "fetched", [])
    except RuntimeError:  # the machine's lists are missing or old: take some of our own
        lists = _own_lists()
        _run(["apt-get", *lists, "-q", "update"], home)
        _fetch(package, home / "fetched", lists)
    for archive in sorted((home / "fetched").glob("*.deb")):
        _run(["dpkg", "-x", str(archive), str(home / "root")], home)
    found = [path for folder in FOLDERS if (path := home / "root" / folder / program).exists()]
    if not found:
        raise RuntimeError(f"the package {package} holds no {program}")
    libraries = sorted({str(path.parent) for path in (home / "root").rglob("*.so*")})
    starter.write_text(STARTER.format(libraries=os.pathsep.join(libraries), program=found[0]))
    starter.chmod(0o755)


def _fetch(package: str, folder: Path, lists: list[str]) -> None:
    """Download the package and those that it depends on and that this machine lacks."""
    plan = _run(["apt-get", *lists, "-s", "--no-install-recommends", "install", package], folder)
    wanted = re.findall(r"^Inst (\S+)", plan, re.MULTILINE)
    _run(["apt-get", *lists, "download", *(wanted or [package])], folder)


def _own_lists() -> list[str]:
    lists, archives = CACHE / "lists", CACHE / "archives"
    for folder in (lists, archives):
        (folder / "partial").mkdir(parents=True, exist_ok=True)
    return ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={archives}"]


def _run(command: list[str], folder: Path) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout
