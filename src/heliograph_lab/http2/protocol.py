"""h2's state machine with what a misbehaving server needs: own stream limit, GOAWAY in steps, first SETTINGS."""

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event
from h2.settings import SettingCodes
from hyperframe.frame import Frame, GoAwayFrame

from heliograph_lab.http2.model import Limits

_TIDY_EVERY = 256  # streams
_INITIAL_CONNECTION_WINDOW = 65_535


class Http2(H2Connection):
    """One connection's protocol, server side. Bytes in by `receive_data`, bytes out by `data_to_send`."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(H2Configuration(client_side=False, header_encoding=None, validate_outbound_headers=False))
        self._opened = 0
        self.initiate_connection()
        # h2 would take its first SETTINGS for acknowledged already, and a client that speaks before it has read them
        # would be in breach of a window that it cannot know: they are announced as a change instead.
        self.clear_outbound_data_buffer()
        self.change(limits.max_concurrent_streams, limits.initial_window_size)
        more = limits.connection_window - _INITIAL_CONNECTION_WINDOW
        if more > 0:
            self.increment_flow_control_window(more)

    @property
    def open_inbound_streams(self) -> int:
        """Never over the limit: h2 would end the connection where one stream is to be refused.

        h2 counts, and forgets closed streams, by a walk over all of them for each new one: here only now and then.
        """
        self._opened += 1
        if self._opened % _TIDY_EVERY == 0:
            _ = super().open_inbound_streams
        return -1

    def change(self, max_concurrent_streams: int | None, initial_window_size: int | None) -> None:
        """Queue SETTINGS with what is not None."""
        wanted: dict[SettingCodes | int, int] = {}
        if max_concurrent_streams is not None:
            wanted[SettingCodes.MAX_CONCURRENT_STREAMS] = max_concurrent_streams
        if initial_window_size is not None:
            wanted[SettingCodes.INITIAL_WINDOW_SIZE] = initial_window_size
        self.update_settings(wanted)

    def go_away_frame(self, last: int, code: int, debug: bytes) -> bytes:
        """GOAWAY, to be sent behind `data_to_send`. Past h2, which would take the connection for closed."""
        frame = GoAwayFrame(0, last_stream_id=last, error_code=code, additional_data=debug)
        return frame.serialize()

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:  # noqa: ARG002
        # A client that opens no more streams still waits for its answers (RFC 9113, 6.8); it closes when it has them.
        return [], []
