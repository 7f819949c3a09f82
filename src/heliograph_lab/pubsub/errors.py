"""Refusals in the words of Google's Pub/Sub."""

from typing import Any

from heliograph_lab.amapi.errors import ApiError, error_json

_FAULTS = {
    401: "Request had invalid authentication credentials.",
    403: "User not authorized to perform this action.",
    404: "Resource not found.",
    429: "Quota exceeded for quota metric 'Regional subscriber throughput' of service 'pubsub.googleapis.com'.",
}


def fault_body(status: int) -> dict[str, Any]:
    """The body of a fault's answer."""
    return error_json(status, _FAULTS.get(status), details=[])


def not_found(name: str) -> ApiError:
    """A topic or subscription that is not there."""
    return ApiError(404, f"Resource not found (resource={name.rpartition('/')[2]}).")


def exists(name: str) -> ApiError:
    """A topic or subscription that is there already."""
    text = f"Resource already exists in the project (resource={name.rpartition('/')[2]})."
    return ApiError(409, text, rpc="ALREADY_EXISTS")


def not_modelled(what: str) -> ApiError:
    """What Google has and the lab has not."""
    return ApiError(501, f"The lab's Pub/Sub does not model {what}.")
