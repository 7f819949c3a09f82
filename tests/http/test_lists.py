"""Pages, order and limits of lists (DECISIONS 10)."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from tests.http.routes import LISTS
from tests.support.client import Api, Device, Json, data_of, fields_of
from tests.support.demo import Demo

MEMBERS = {
    "items",
    "totalDocs",
    "limit",
    "page",
    "totalPages",
    "pagingCounter",
    "hasPrevPage",
    "hasNextPage",
    "prevPage",
    "nextPage",
}
PATHS = {
    "listEmmDevices": "mdm/android/enterprise/devices",
    "listAosDevices": "mdm/aosp/enterprise/devices",
    "listDevices": "mdm/devices",
}
COUNT = 7
COMMANDS = ("LOCK", "REBOOT", "LOCK", "CLEAR_APP_DATA", "REBOOT", "LOCK", "REBOOT")


class World:
    """An organization with seven records in each list, oldest first."""

    def __init__(self, demo: Demo) -> None:
        self.api: Api = demo.new_organization()
        self.api.setup("enterprise.add", name="enterprises/LClists")
        self.ids: dict[str, list[str]] = {}
        names = ["d", "b", "a", "b", "c", "a", "d"]
        made = {p: [self.api.new_device(p, f"name {n}").device for n in names] for p in ("android", "aosp")}
        self.ids["listEmmDevices"] = [device.id for device in made["android"]]
        self.ids["listAosDevices"] = [device.id for device in made["aosp"]]
        self.devices = {"listEmmCommands": made["android"][0], "listAosCommands": made["aosp"][0]}
        for operation, device in self.devices.items():
            self.ids[operation] = [self.api.create(device, body)["id"] for body in self._bodies(device)]
        every = [*made["android"], *made["aosp"]]
        self.ids["listDevices"] = [device.all_platform_id for device in every]

    @staticmethod
    def _bodies(device: Device) -> list[Json]:
        member = "type" if device.platform == "android" else "command"
        params = "clearAppsDataParams" if device.platform == "android" else "params"
        return [
            {member: name} | ({params: {"packageNames": ["org.example"]}} if name == "CLEAR_APP_DATA" else {})
            for name in COMMANDS
        ]

    def list(self, operation: str, **query: Any) -> httpx2.Response:
        """One page."""
        path = self.devices[operation].commands if operation in self.devices else PATHS[operation]
        return self.api.get(path, **query)

    def page(self, operation: str, **query: Any) -> Json:
        """`data` of one page."""
        found: Json = data_of(self.list(operation, **query))
        return found


@pytest.fixture(scope="session")
def world(demo: Demo) -> World:
    """Seven records a list."""
    return World(demo)


def ids(page: Json) -> list[str]:
    return [item["id"] for item in page["items"]]


@pytest.mark.parametrize("operation", LISTS)
class TestEveryList:
    """All lists have the same rules."""

    def test_is_a_page_of_25_by_default(self, operation: str, world: World) -> None:
        page = world.page(operation)
        expected = world.ids[operation]
        assert set(page) == MEMBERS
        assert ids(page) == expected
        facts = {name: page[name] for name in MEMBERS - {"items"}}
        assert facts == {
            "totalDocs": len(expected),
            "limit": 25,
            "page": 1,
            "totalPages": 1,
            "pagingCounter": 1,
            "hasPrevPage": False,
            "hasNextPage": False,
            "prevPage": None,
            "nextPage": None,
        }

    def test_is_read_page_by_page(self, operation: str, world: World) -> None:
        expected = world.ids[operation]
        found: list[str] = []
        number = 1
        while True:
            page = world.page(operation, page=number, limit=3)
            found += ids(page)
            assert page["totalDocs"] == len(expected)
            assert page["totalPages"] == -(-len(expected) // 3)
            assert page["pagingCounter"] == (number - 1) * 3 + 1
            assert page["prevPage"] == (number - 1 or None)
            assert page["hasPrevPage"] == (number > 1)
            assert page["hasNextPage"] == (page["nextPage"] is not None)
            if not page["hasNextPage"]:
                break
            number = page["nextPage"]
        assert found == expected

    def test_links_to_its_next_page(self, operation: str, world: World) -> None:
        """Whoever follows the links sees everything, in the order asked for."""
        answer = world.list(operation, limit=3, sort="createdAt:desc", unknown="a b&c")
        found = ids(data_of(answer))
        while "next" in answer.links:
            url = answer.links["next"]["url"]
            assert parse_qs(urlsplit(url).query)["unknown"] == ["a b&c"]
            answer = world.api.call("GET", url.removeprefix(str(world.api.client.base_url).rstrip("/")))
            found += ids(data_of(answer))
        assert found == world.ids[operation][::-1]
        assert "link" not in answer.headers

    def test_is_empty_past_its_end(self, operation: str, world: World) -> None:
        for number in (3, 1000, 10**9, 2**53 - 1):
            page = world.page(operation, page=number, limit=10)
            if number > page["totalPages"]:
                assert page["items"] == []
                assert (page["hasNextPage"], page["nextPage"], page["hasPrevPage"]) == (False, None, True)
                assert page["prevPage"] == number - 1
                assert page["totalDocs"] == len(world.ids[operation])

    def test_takes_numbers_within_bounds(self, operation: str, world: World) -> None:
        assert len(ids(world.page(operation, limit=1))) == 1
        assert ids(world.page(operation, limit=10000)) == world.ids[operation]

    @pytest.mark.sqlite_only
    @pytest.mark.parametrize("name", ["page", "limit"])
    @pytest.mark.parametrize("value", ["0", "-1", "", "x", "1.0", "1e2", "+1", "01x", "١", "9" * 30, "true", "1 "])
    def test_refuses_other_numbers(self, operation: str, name: str, value: str, world: World) -> None:
        assert fields_of(world.list(operation, **{name: value})) == [name]

    def test_refuses_a_limit_over_10000(self, operation: str, world: World) -> None:
        assert fields_of(world.list(operation, limit=10001)) == ["limit"]

    def test_answers_or_names_a_page_too_far_away(self, operation: str, world: World) -> None:
        for number in (2**31, 2**53 // 10_000, 2**53, 2**63, 10**16):
            answer = world.list(operation, page=number, limit=10_000)
            if answer.status_code != 200:
                assert fields_of(answer) == ["page"]

    def test_is_sorted_by_creation_in_both_directions(self, operation: str, world: World) -> None:
        expected = world.ids[operation]
        assert ids(world.page(operation, sort="createdAt")) == expected
        assert ids(world.page(operation, sort="createdAt:asc")) == expected
        assert ids(world.page(operation, sort="createdAt:desc")) == expected[::-1]

    @pytest.mark.sqlite_only
    @pytest.mark.parametrize(
        "sort",
        ["nope", "createdAt:up", "createdAt:", "created_at", "id; DROP TABLE commands", "a:b:c", "createdAt:asc,id"],
    )
    def test_refuses_to_sort_by_anything_else(self, operation: str, sort: str, world: World) -> None:
        assert fields_of(world.list(operation, sort=sort)) == ["sort"]

    def test_pages_of_equal_values_neither_repeat_nor_lose_any(self, operation: str, world: World) -> None:
        """Ties are broken by id."""
        field = "status" if operation in world.devices else "state"
        for direction in ("asc", "desc"):
            found = [
                i for n in range(1, 9) for i in ids(world.page(operation, sort=f"{field}:{direction}", page=n, limit=2))
            ]
            assert sorted(found) == sorted(world.ids[operation])


def test_devices_are_sorted_by_name_with_ties_by_id(world: World) -> None:
    names = ["d", "b", "a", "b", "c", "a", "d"]
    for operation in ("listEmmDevices", "listAosDevices"):
        pairs = sorted(zip(names, world.ids[operation], strict=True))
        assert ids(world.page(operation, sort="displayName")) == [record for _, record in pairs]
        assert ids(world.page(operation, sort="displayName:desc")) == [record for _, record in pairs[::-1]]


@pytest.mark.parametrize(("operation", "field"), [("listEmmCommands", "type"), ("listAosCommands", "command")])
def test_commands_are_sorted_by_type_with_ties_by_id(operation: str, field: str, world: World) -> None:
    pairs = sorted(zip(COMMANDS, world.ids[operation], strict=True))
    assert ids(world.page(operation, sort=field)) == [record for _, record in pairs]
    assert ids(world.page(operation, sort=f"{field}:desc", limit=4)) == [record for _, record in pairs[::-1]][:4]


def test_a_list_without_records_has_one_empty_page(demo: Demo) -> None:
    empty = demo.new_organization()
    for path in PATHS.values():
        page = data_of(empty.get(path))
        assert (page["items"], page["totalDocs"], page["totalPages"], page["hasNextPage"]) == ([], 0, 1, False)


def test_records_of_a_list_are_those_of_the_single_read(world: World) -> None:
    for operation, device in world.devices.items():
        for record in world.page(operation)["items"]:
            alone = world.api.command(device, record["id"])
            assert {**alone, "progress": None} | {"updatedAt": ""} == {**record, "progress": None} | {"updatedAt": ""}


def test_the_next_page_of_a_device_with_any_alias(demo: Demo) -> None:
    """The header is ASCII, whatever stands in the path."""
    api = demo.new_organization()
    api.setup("enterprise.add", name="enterprises/LCalias")
    device = api.new_device("android", serialNumber="Ñandú_日本").device
    made = [api.create(device, "LOCK")["id"] for _ in range(2)]
    path = "mdm/android/enterprise/devices/%C3%91and%C3%BA_%E6%97%A5%E6%9C%AC/commands"
    link = api.get(path, limit=1).headers["link"]
    url = link.partition("<")[2].partition(">")[0]
    assert f"/{path}?" in url
    following = api.client.get(url, headers={"Authorization": f"Bearer {api.key}"})
    assert [item["id"] for item in data_of(following)["items"]] == made[1:]
