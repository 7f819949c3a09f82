"""Start sygnal as its users do, but with the lab in Apple's place. Run by the Python of its checkout, not by ours.

The one argument names a JSON file: `{"checkout","port","quiet","apps","apns":{"host","port","ca"}}`.
"""

from __future__ import annotations

import importlib
import json
import os
import ssl
import sys
from pathlib import Path
from typing import Any

import yaml


def sample(checkout: Path) -> Path:
    """The configuration that it comes with."""
    return checkout / "sygnal.yaml.sample"


def configuration(plan: dict[str, Any]) -> dict[str, Any]:
    """The sample configuration of the checkout with our apps; `quiet` = only warnings are logged."""
    config: dict[str, Any] = yaml.safe_load(sample(Path(plan["checkout"])).read_text())
    config["http"]["port"] = plan["port"]
    config["apps"] = plan["apps"]
    if plan["quiet"]:
        logged = config["log"]["setup"]
        for logger in (logged["root"], *logged["loggers"].values()):
            logger["level"] = "WARNING"
    return config


def lead_to_the_lab(host: str, port: int, ca: str) -> None:
    """Neither sygnal nor the aioapns below it has a setting for where APNs is, or for whom to trust."""
    client: Any = importlib.import_module("aioapns.client")
    connection: Any = importlib.import_module("aioapns.connection")
    production = connection.APNsProductionClientProtocol
    production.APNS_SERVER, production.APNS_PORT = host, port
    tls = ssl.create_default_context(cadata=ca)
    tls.set_alpn_protocols(["h2"])  # aioapns asks for none, which Apple does not mind
    pool = connection.APNsKeyConnectionPool
    client.APNsKeyConnectionPool = lambda **settings: pool(**settings | {"ssl_context": tls})


def main() -> None:
    """Run it until it is stopped; its log file goes to the working directory."""
    plan = json.loads(Path(sys.argv[1]).read_text())
    sys.path[0] = plan["checkout"]  # instead of this folder, whose modules have common names
    lead_to_the_lab(**plan["apns"])
    config = Path(sys.argv[1]).with_suffix(".yaml")
    config.write_text(yaml.safe_dump(configuration(plan)))
    os.environ["SYGNAL_CONF"] = str(config)
    importlib.import_module("sygnal.sygnal").main()


if __name__ == "__main__":
    main()
