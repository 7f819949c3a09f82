"""Where a command goes: over HTTP, or to a database. Flags beat the environment, which beats `./var`."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from heliograph.cli.exits import usage
from heliograph.cli.options import Remote, Setup

_DEFAULT = Path("var")
DATABASE_FILE = "heliograph.db"


@dataclass(frozen=True, slots=True)
class Http:
    """A server and the key to it."""

    url: str
    api_key: str
    organization: str | None = None

    def __repr__(self) -> str:
        """Without the key: representations end up in tracebacks."""
        return f"Http({self.url!r})"


@dataclass(frozen=True, slots=True)
class OnDatabase:
    """A data directory, and the database if it is not the one in there."""

    data_dir: Path
    database: str | None
    organization: str | None = None

    def __repr__(self) -> str:
        """Without the database's password."""
        return f"OnDatabase({str(self.data_dir)!r})"


def for_setup(given: Setup) -> Http | OnDatabase:
    """Where a set-up verb goes; raises Failure when nothing says so, or two flags contradict each other."""
    flags_http = given.url is not None or given.api_key is not None
    flags_database = given.data_dir is not None or given.database is not None
    if flags_http and flags_database:
        raise usage("say either --data-dir or --database, or else --url and --api-key: they are different ways")
    if flags_http or (not flags_database and _env("URL")):
        return _http(given.url, given.api_key, given.org)
    data_dir, database = given.data_dir, given.database or _env("DATABASE")
    if data_dir is None and (text := _env("DATA_DIR")):
        data_dir = Path(text)
    if data_dir is None and database is None and not (_DEFAULT / DATABASE_FILE).exists():
        raise usage(
            "nothing says where to do this. On the server's machine: --data-dir DIR or --database URL. "
            "Over HTTP: --url and --api-key, or HELIOGRAPH_URL and HELIOGRAPH_API_KEY"
        )
    return OnDatabase(data_dir or _DEFAULT, database, given.org or _env("ORG"))


def place_of_database(
    data_dir: Path | None, database: str | None, org: str | None
) -> tuple[Path, str | None, str | None]:
    """Data directory, database and organization, for what works on the server's machine only."""
    return data_dir or Path(_env("DATA_DIR") or _DEFAULT), database or _env("DATABASE"), org or _env("ORG")


def for_api(given: Remote) -> Http:
    """Where a call of the API goes; raises Failure when nothing says so."""
    if given.url is not None:
        if given.data_dir is not None:
            raise usage("say either --url or --data-dir: they are different ways")
        return _http(given.url, given.api_key, given.org)
    if given.data_dir is not None:
        return _demo(given.data_dir, given)
    if _env("URL"):
        return _http(None, given.api_key, given.org)
    data_dir = Path(_env("DATA_DIR") or _DEFAULT)
    if (data_dir / "demo.json").exists():
        return _demo(data_dir, given)
    raise usage(
        "nothing says which server: set HELIOGRAPH_URL and HELIOGRAPH_API_KEY, or give --url and --api-key "
        "(beside a demo: --data-dir DIR)"
    )


def _env(name: str) -> str | None:
    return os.environ.get(f"HELIOGRAPH_{name}") or None


def _http(url: str | None, key: str | None, org: str | None) -> Http:
    url, key = url or _env("URL"), key or _env("API_KEY")
    if not url:
        raise usage("an API key without a server: give --url too, or set HELIOGRAPH_URL")
    if not _is_address(url):
        raise usage("--url (HELIOGRAPH_URL) must be an address that begins with http:// or https://")
    if not key:
        raise usage("a server without an API key: give --api-key too, or set HELIOGRAPH_API_KEY")
    return Http(url.rstrip("/"), _plain_key(key), org or _env("ORG"))


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and " " not in url and parts.port != 0
    except ValueError:
        return False


def _plain_key(key: str) -> str:
    key = key.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise usage("--api-key (HELIOGRAPH_API_KEY) is not an API key: it begins with hlg_ and has no blanks")
    return key


def _demo(data_dir: Path, given: Remote) -> Http:
    """URL, key and organization of the demo that runs on a data directory; a key that is given goes before its own."""
    plan = demo_plan(data_dir)
    if plan is None:
        way = "leave --data-dir out to use HELIOGRAPH_URL" if _env("URL") else "give --url and --api-key"
        raise usage(f"{data_dir} is not the directory of a demo (no demo.json): {way}")
    try:
        slug = str(plan["organization"]["slug"])
        url, key = str(plan["baseUrl"]), given.api_key or str(plan["apiKey"])
    except (KeyError, TypeError):
        url = key = slug = ""
    if not url or not key:
        raise usage(f"the demo in {data_dir} has never been up: heliograph up --demo --data-dir {data_dir}")
    return Http(url.rstrip("/"), _plain_key(key), given.org or slug)


def demo_plan(data_dir: Path) -> dict[str, Any] | None:
    """What `up --demo` noted about itself; None where there is no demo."""
    import json

    try:
        plan = json.loads((data_dir / "demo.json").read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise usage(f"{data_dir}/demo.json cannot be read by you: give --url and --api-key") from None
    except ValueError:
        raise usage(f"{data_dir}/demo.json is damaged") from None
    return plan if isinstance(plan, dict) else None
