"""The examples on the documentation's page work as they stand there, and print what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.arch.files import ROOT
from tests.cli.rig import plain_environment, serving

PAGE = (ROOT / "docs" / "lab.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
OUTPUTS = re.findall(r"^```text\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(("example", "output"), [*zip(EXAMPLES, OUTPUTS, strict=True)], ids=["amapi", "notifications"])
def test_the_examples_of_the_emulators_page(tmp_path: Path, example: str, output: str) -> None:
    with serving(tmp_path, "lab", "up", "--data-dir", tmp_path) as urls:
        program = example
        for port, service in (("9000", "control"), ("9001", "amapi"), ("9002", "pubsub")):
            program = program.replace(f"http://127.0.0.1:{port}", urls[f"{service}Url"])
        assert program.count(urls["controlUrl"]) == program.count(urls["amapiUrl"]) == 1
        command = [sys.executable, "-c", program]
        environment = plain_environment(NO_PROXY="127.0.0.1", no_proxy="127.0.0.1")
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == output
