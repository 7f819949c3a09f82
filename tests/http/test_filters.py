"""The filters of lists of devices: a list is never longer than was asked for."""

from __future__ import annotations

import pytest

from tests.http.test_lists import PATHS, ids
from tests.support import contract
from tests.support.client import Api, data_of, fields_of
from tests.support.contract import operations
from tests.support.demo import Demo

STATES = ("ACTIVE", "DISABLED", "DELETED", "LOST")
ID = "65f0c0ffee0000000000d001"


class World:
    """An organization with a device in each state, for each list."""

    def __init__(self, demo: Demo) -> None:
        self.api: Api = demo.new_organization()
        self.api.setup("enterprise.add", name="enterprises/LCfilters")
        self.ids = {
            operation: {s: self.api.new_device(platform, state=s).device.id for s in STATES}
            for operation, platform in (("listEmmDevices", "android"), ("listAosDevices", "aosp"))
        }

    def found(self, operation: str, query: str) -> list[str]:
        """The states of the devices that are listed."""
        page = data_of(self.api.call("GET", f"{PATHS[operation]}?{query}"))
        assert page["totalDocs"] == len(page["items"])
        names = {record: state for state, record in self.ids[operation].items()}
        return [names[record] for record in ids(page)]


@pytest.fixture(scope="session")
def filtered(demo: Demo) -> World:
    """Four devices a list."""
    return World(demo)


@pytest.mark.parametrize("operation", ["listEmmDevices", "listAosDevices"])
@pytest.mark.parametrize(
    ("query", "states"),
    [
        ("", STATES),
        ("tags=&mdm-user=&show-deleted=&segmentId=", STATES),
        ("show-deleted=true", STATES),
        ("show-deleted=false", ("ACTIVE", "DISABLED", "LOST")),
        ("expandTo=children", STATES),
        (f"mdm-user={ID}", ()),
        ("tags=kiosk", ()),
        ("tags[]=kiosk&tags[]=b", ()),
        ("tags=a,b&show-deleted=true", ()),
        ("segmentId=0", ()),
        ("segmentId=7&expandTo=ancestors", ()),
    ],
)
def test_a_filter_leaves_what_fits(operation: str, query: str, states: tuple[str, ...], filtered: World) -> None:
    assert tuple(filtered.found(operation, query)) == states


@pytest.mark.parametrize(
    ("query", "states"),
    [
        ("state=LOST", ["LOST"]),
        ("state=LOST,ACTIVE", ["ACTIVE", "LOST"]),
        ("state=LOST&state=ACTIVE&sort=createdAt:desc", ["LOST", "ACTIVE"]),
        ("state[]=DELETED&show-deleted=false", []),
        ("state=lost", []),
        (f"aos-policy={ID}&state=LOST", []),
    ],
)
def test_devices_of_a_state(query: str, states: list[str], filtered: World) -> None:
    assert filtered.found("listAosDevices", query) == states


def test_a_filter_goes_on_with_the_pages(filtered: World) -> None:
    answer = filtered.api.call("GET", PATHS["listAosDevices"] + "?show-deleted=false&limit=2")
    assert data_of(answer)["totalDocs"] == 3
    url = answer.links["next"]["url"]
    rest = filtered.api.client.get(url, headers={"Authorization": f"Bearer {filtered.api.key}"})
    assert ids(data_of(rest)) == [filtered.ids["listAosDevices"]["LOST"]]


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("operation", "query", "paths"),
    [
        ("listEmmDevices", "mdm-user=x&emm-policy=%00&show-deleted=1&segmentId=-1&expandTo=all",
         {"mdm-user", "emm-policy", "show-deleted", "segmentId", "expandTo"}),
        ("listEmmDevices", f"mdm-user={ID}&mdm-user={ID}", {"mdm-user"}),
        ("listAosDevices", "aos-policy=x&state=%00&tags=" + "x" * 257, {"aos-policy", "state", "tags"}),
        ("listAosDevices", f"segmentId={2**53}&page=0", {"segmentId", "page"}),
    ],
)  # fmt: skip
def test_what_no_filter_can_be_is_named(operation: str, query: str, paths: set[str], filtered: World) -> None:
    assert set(fields_of(filtered.api.call("GET", f"{PATHS[operation]}?{query}"))) == paths


@pytest.mark.parametrize("operation", ["listEmmDevices", "listAosDevices"])
def test_the_lists_take_the_filters_of_the_contract(operation: str, demo: Demo) -> None:
    [served] = [
        o for path in demo.document["paths"].values() for o in path.values() if o.get("operationId") == operation
    ]
    here = {p["name"] for p in served["parameters"] if p["in"] == "query"}
    written = operations()[operation]
    shared = contract.document(written.document)["components"]["parameters"]
    named = [shared[p["$ref"].rpartition("/")[2]] if "$ref" in p else p for p in written.body["parameters"]]
    assert here == {p["name"] for p in named if p["in"] == "query"}
