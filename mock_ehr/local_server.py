"""Serving on the loopback interface, on a port that is known before the application is."""

import threading
from typing import TYPE_CHECKING

from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

HOST = "127.0.0.1"
_POLL_S = 0.05


class _Quiet(WSGIRequestHandler):
    """Writes no line for each request."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


class LocalServer:
    """A threaded server.

    Parameters
    ----------
    port
        0 takes a free one.
    """

    def __init__(self, port: int = 0) -> None:
        self._server = make_server(
            HOST, port, Flask(__name__), threaded=True, request_handler=_Quiet
        )
        self._thread: threading.Thread | None = None

    @property
    def base_url(self) -> str:
        """Where it is."""
        return f"http://{HOST}:{self._server.port}"

    def start(self, application: "WSGIApplication") -> None:
        """Serve in a thread of its own."""
        self._server.app = application
        self._thread = threading.Thread(target=self._serve_until_stopped, daemon=True)
        self._thread.start()

    def _serve_until_stopped(self) -> None:
        self._server.serve_forever(poll_interval=_POLL_S)

    def serve(self, application: "WSGIApplication") -> None:
        """Serve until interrupted."""
        self._server.app = application
        self._server.serve_forever()

    def stop(self) -> None:
        """End, and give the port back."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
