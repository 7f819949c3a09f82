"""The reasons for which APNs refuses, with their statuses.

https://developer.apple.com/documentation/usernotifications/handling-notification-responses-from-apns
"""

REASONS = {
    "BadCollapseId": 400,
    "BadDeviceToken": 400,
    "BadExpirationDate": 400,
    "BadMessageId": 400,
    "BadPriority": 400,
    "BadTopic": 400,
    "DeviceTokenNotForTopic": 400,
    "DuplicateHeaders": 400,
    "IdleTimeout": 400,
    "InvalidPushType": 400,
    "MissingDeviceToken": 400,
    "MissingTopic": 400,
    "PayloadEmpty": 400,
    "TopicDisallowed": 400,
    "LabBadPayload": 400,  # the lab's own: Apple names none for a body that the push type does not allow
    "BadCertificate": 403,
    "BadCertificateEnvironment": 403,
    "ExpiredProviderToken": 403,
    "Forbidden": 403,
    "InvalidProviderToken": 403,
    "MissingProviderToken": 403,
    "BadPath": 404,
    "MethodNotAllowed": 405,
    "ExpiredToken": 410,
    "Unregistered": 410,
    "PayloadTooLarge": 413,
    "TooManyProviderTokenUpdates": 429,
    "TooManyRequests": 429,
    "InternalServerError": 500,
    "ServiceUnavailable": 503,
    "Shutdown": 503,
}
# What a fault of this status says unless it names its reason.
USUAL = {
    400: "BadDeviceToken",
    403: "ExpiredProviderToken",
    410: "Unregistered",
    413: "PayloadTooLarge",
    429: "TooManyRequests",
    503: "ServiceUnavailable",
}


class ApnsError(Exception):
    """A refusal. `timestamp`: Unix milliseconds from which the token has been dead, with 410."""

    def __init__(self, reason: str, timestamp: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = REASONS[reason]
        self.timestamp = timestamp


def usual_reason(status: int) -> str:
    """The reason that goes with a status most often."""
    return USUAL.get(status) or next((name for name, its in REASONS.items() if its == status), "InternalServerError")
