"""nghttp2's load generator on the fakes: what they and the machine can do at most."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

from bench.processes import ChildFailed
from tests.support import debian

STREAMS = 100
_RATE = re.compile(r"finished in [\d.]+\w+, ([\d.]+) req/s")
_SUCCEEDED = re.compile(r"status codes: (\d+) 2xx")


async def per_second(url: str, sample: dict[str, Any], count: int, folder: Path) -> float:
    """Requests a second over one connection, one request again and again. RuntimeError where h2load cannot be had."""
    program = await asyncio.to_thread(debian.ensure, "nghttp2-client", "h2load")
    body = folder / "h2load.body"
    body.write_text(sample["body"])
    headers = [part for name, value in sample["headers"].items() for part in ("-H", f"{name}: {value}")]
    command = [program, "-n", str(count), "-c", "1", "-m", str(STREAMS), "-d", str(body), *headers]
    process = await asyncio.create_subprocess_exec(
        *command, url + sample["path"], stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output = (await process.communicate())[0].decode(errors="replace")
    rate, succeeded = _RATE.search(output), _SUCCEEDED.search(output)
    if process.returncode or not rate or not succeeded or int(succeeded[1]) != count:
        raise ChildFailed(f"h2load did not get all answers:\n{output[-2000:]}")
    return float(rate[1])
