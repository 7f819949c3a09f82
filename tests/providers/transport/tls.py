"""TCP servers that never get as far as HTTP."""

from __future__ import annotations

import socket
import ssl
import threading


class NotAccepting:
    """A port where connections are made by the kernel and nobody ever answers."""

    def __enter__(self) -> str:
        self._socket = socket.create_server(("127.0.0.1", 0))
        return f"https://127.0.0.1:{self._socket.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._socket.close()


class RefusingTls:
    """Demands a client certificate of an authority that nobody has, and says so by TLS alert. `met` counts."""

    def __init__(self, context: ssl.SSLContext) -> None:
        context.verify_mode = ssl.CERT_REQUIRED
        self._context, self.met = context, 0

    def __enter__(self) -> RefusingTls:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Closing alone does not wake a thread that waits in accept.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.met += 1
            self._refuse(connection)

    def _refuse(self, connection: socket.socket) -> None:
        with (
            connection.dup() as below,
            self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as above,
        ):
            try:
                above.do_handshake()
            except ssl.SSLError:
                # What was received and not read would turn the end into an RST, which overtakes the alert.
                below.shutdown(socket.SHUT_WR)
                while below.recv(65_536):
                    pass
