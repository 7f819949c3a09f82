"""What the library's texts mean. Each was provoked with pyreqwest 0.15.1; another version must be asked anew."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from heliograph.ports.transport import Cause, NotProcessed, Outcome, Unknown
from heliograph.providers.transport.wire import texts_of, verdict

SENT, NOT_CONNECTED = "client error (SendRequest)", "client error (Connect)"
GOAWAY = "connection error received: detected excessive load generating behavior"


def test_the_version_is_the_one_whose_texts_were_read() -> None:
    assert version("pyreqwest") == "0.15.1"


@pytest.mark.parametrize(
    ("texts", "meaning"),
    [
        ([NOT_CONNECTED, "tcp connect error", "Connection refused (os error 111)"], NotProcessed(Cause.NO_CONNECTION)),
        ([NOT_CONNECTED, "tls handshake eof"], NotProcessed(Cause.NO_CONNECTION)),
        ([NOT_CONNECTED, "request was canceled"], NotProcessed(Cause.NO_CONNECTION)),
        ([NOT_CONNECTED, "operation timed out"], NotProcessed(Cause.NO_CONNECTION_YET)),
        (
            [NOT_CONNECTED, "dns error", "error resolving DNS", "failed to lookup address information: canary"],
            NotProcessed(Cause.NO_NAME),
        ),
        ([NOT_CONNECTED, "invalid peer certificate: UnknownIssuer"], NotProcessed(Cause.NO_TRUST)),
        ([NOT_CONNECTED, "received fatal alert: UnknownCA"], NotProcessed(Cause.NO_ENTRY)),
        ([SENT, "connection error", "received fatal alert: CertificateRequired"], NotProcessed(Cause.NO_ENTRY)),
        ([SENT, "connection error", "received fatal alert: CertificateExpired"], NotProcessed(Cause.NO_ENTRY)),
        (
            [SENT, "http2 error", "connection error received: not a result of an error"],
            NotProcessed(Cause.GOING_AWAY),
        ),
        (
            [SENT, "http2 error", rf'{GOAWAY} (b"{{\"reason\":\"TooManyProviderTokenUpdates\"}}")'],
            NotProcessed(Cause.GOING_AWAY, "TooManyProviderTokenUpdates"),
        ),
        ([SENT, "http2 error", rf'{GOAWAY} (b"{{\"reason\":\"not a word\"}}")'], NotProcessed(Cause.GOING_AWAY)),
        (
            [SENT, "http2 error", "stream error received: refused stream before processing any application logic"],
            NotProcessed(Cause.REFUSED),
        ),
        ([SENT, "http2 error", "stream error received: stream no longer needed"], Unknown(Cause.RESET)),
        ([SENT, "connection error", "connection reset"], Unknown(Cause.LOST)),
        ([SENT, "connection error", "stream closed because of a broken pipe"], Unknown(Cause.LOST)),
        ([SENT, "connection error", "received fatal alert: InternalError"], Unknown(Cause.LOST)),
        ([SENT, "http2 error", "connection error detected: frame with invalid size"], Unknown(Cause.LOST)),
        ([SENT, "http2 error", "keep-alive timed out", "operation timed out"], Unknown(Cause.LOST)),
        (["client error (Canceled)", "operation was canceled", "connection closed"], Unknown(Cause.LOST)),
        ([SENT, "dispatch task is gone", "runtime dropped the dispatch task"], Unknown(Cause.LOST)),
        (["operation timed out"], Unknown(Cause.SILENT)),
        (["refused stream"], Unknown(Cause.UNEXPLAINED)),
        (["something new"], Unknown(Cause.UNEXPLAINED)),
        ([], Unknown(Cause.UNEXPLAINED)),
    ],
)
def test_texts_mean(texts: list[str], meaning: Outcome) -> None:
    assert verdict(texts) == meaning


@pytest.mark.parametrize("details", [None, {}, {"causes": None}, {"causes": [None, {}]}, {"causes": [{"message": 1}]}])
def test_details_of_any_shape_are_no_exception(details: object) -> None:
    error = Exception()
    error.details = details  # type: ignore[attr-defined]
    assert verdict(texts_of(error)) == Unknown(Cause.UNEXPLAINED)


def test_the_text_that_names_the_address_is_left_out() -> None:
    error = Exception()
    error.details = {  # type: ignore[attr-defined]
        "causes": [{"message": "error sending request for url (https://x/client error (Connect))"}, {"message": "a"}]
    }
    assert texts_of(error) == ["a"]
