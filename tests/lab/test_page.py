"""The example on the documentation's page works as it stands there, and prints what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.arch.files import ROOT
from tests.cli.rig import plain_environment, serving


def test_the_example_of_the_emulators_page(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "lab.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (output,) = re.findall(r"^```text\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    with serving(tmp_path, "lab", "up", "--data-dir", tmp_path) as urls:
        program = example.replace("http://127.0.0.1:9000", urls["controlUrl"])
        program = program.replace("http://127.0.0.1:9001", urls["amapiUrl"])
        assert program.count(urls["controlUrl"]) == program.count(urls["amapiUrl"]) == 1
        command = [sys.executable, "-c", program]
        environment = plain_environment(NO_PROXY="127.0.0.1", no_proxy="127.0.0.1")
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == output
