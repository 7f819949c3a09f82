"""The contract's checks themselves: they see every operation, they can fail, and our own document agrees with them.

The answers of all other HTTP tests pass through the same checks (tests/support/contract.Witness).
"""

from __future__ import annotations

import pytest

from heliograph.domain.catalog import TYPES
from heliograph.http.app import OPERATIONS
from tests.http.routes import ALL, DOCUMENTED, known_in, permission_of, request
from tests.support import contract, pins
from tests.support.demo import Demo

# Their success would change what the other tests stand on; their own tests see it.
_ONLY_REFUSED = {
    "setup.organization.create",
    "setup.organization.feature",
    "setup.key.revoke",
    "setup.device.add",
    "setup.device.pull",
    "setup.device.secret",
    "setup.enterprise.add",
    "setup.provider.add",
    "setup.provider.get",
    "setup.provider.update",
    "setup.provider.test",
}


def _schemas(demo: Demo) -> contract.Schemas:
    return contract.Schemas(demo.document)


def test_every_operation_answers_as_it_is_written(demo: Demo) -> None:
    known = known_in(demo)
    for operation in ALL:
        answer = request(operation, demo.api, known)  # the client's witness checks the answer
        if operation not in _ONLY_REFUSED:
            assert answer.status_code == 200, (operation, answer.text)


@pytest.mark.parametrize("operation", DOCUMENTED)
def test_the_pins_require_members_and_refuse_others(demo: Demo, operation: str) -> None:
    schemas, pinned = _schemas(demo), contract._rebased(pins.answer(operation))
    for value in ({"status": True}, {"status": True, "data": {"zz": 1}}, {"status": False, "data": {}}):
        with pytest.raises(AssertionError):
            schemas.check(f"pins/{operation}", pinned, value)
    # Only a push-status may be empty: nothing accepted yet.
    if operation != "getAosCommandPushStatus":
        with pytest.raises(AssertionError):
            schemas.check(f"pins/{operation}", pinned, {"status": True, "data": {}})


def test_our_document_has_every_route_with_the_contracts_names_and_permissions(demo: Demo) -> None:
    served = {found.id: found for found in contract.operations_of("served.json", demo.document)}
    assert set(served) == {operation.id for operation in OPERATIONS}
    for name in ALL:
        written = contract.operations()[name]
        assert (served[name].method, served[name].path) == (written.method, written.path), name
        assert served[name].permission == permission_of(name), name


def test_our_document_names_the_types_with_permissions_of_their_own() -> None:
    written = contract.document("extensions.yaml")["x-added"]["createEmmCommand"]["types"]
    forms = {name: entry.amapi for name, entry in TYPES.items() if entry.amapi}
    assert {name: (type_["permission"], tuple(type_["params"])) for name, type_ in written.items()} == {
        name: (form.permission, form.members) for name, form in forms.items() if form.permission
    }


def test_our_document_is_openapi_3_1_and_every_reference_leads_somewhere(demo: Demo) -> None:
    document = demo.document
    assert document["openapi"].startswith("3.1.")
    schemas = document["components"]["schemas"]

    def references(value: object) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [found for member in value.values() for found in references(member)]
        return [found for item in value for found in references(item)] if isinstance(value, list) else []

    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in schemas, reference
    ids = [found.id for found in contract.operations_of("served.json", document)]
    assert len(ids) == len(set(ids))
