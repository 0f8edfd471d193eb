"""Serves pages on this computer: what its servers have in common, and the built page's own.

The built page gets right MIME types, and the headers that give it its threads.
"""

import socketserver
import sys
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
HEADERS = {
    # Only an isolated page gets memory that several threads share.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class PageHandler(SimpleHTTPRequestHandler):
    """Files of one folder, and no lists of them."""

    # Named here because some systems' tables lack them or, as Windows' registry may, have them wrong.
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".css": "text/css",
        ".html": "text/html; charset=utf-8",
        ".json": "application/json",
        ".wasm": "application/wasm",
        ".onnx": "application/octet-stream",
        ".svg": "image/svg+xml",
        ".webmanifest": "application/manifest+json",
    }
    isolated = True

    def end_headers(self) -> None:
        """Send the page's own headers too."""
        for name, value in HEADERS.items():
            if self.isolated or not name.startswith("Cross-Origin"):
                self.send_header(name, value)
        super().end_headers()

    def list_directory(self, path: Any) -> None:
        """A folder is answered as if it were not there."""
        self.send_error(404, "no such file")

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: one line per file would hide the address."""


class LocalServer(ThreadingHTTPServer):
    """For this computer only; `serve_forever` until interrupted, `address` is what to open.

    Args:
        port: 0 takes a free one.
        handler: called for each request.

    Raises:
        OSError: the port is taken, or not allowed.
    """

    daemon_threads = True

    def __init__(self, port: int, handler: Callable[..., BaseHTTPRequestHandler]):
        try:
            super().__init__((HOST, port), handler)
        except OSError as error:
            raise OSError(
                f"port {port} of {HOST} can't be used ({error.strerror}): choose another one with --port"
            ) from error

    def server_bind(self) -> None:
        """As HTTPServer's own, which asks the name server for this host's name: that may take long, and isn't used."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that closes a connection early is no error to be shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def address(self) -> str:
        """What to open in the browser."""
        return f"http://{HOST}:{self.server_port}/"


def page_server(folder: Path, port: int = 0, isolated: bool = True) -> LocalServer:
    """A server of the page in `folder`, on this computer only.

    Args:
        folder: of the built page.
        port: 0 takes a free one.
        isolated: send the headers that give the page several threads; a plain host such as GitHub Pages does not.

    Raises:
        OSError: the port is taken, or not allowed.
    """
    handler = type("Handler", (PageHandler,), {"isolated": isolated})
    return LocalServer(port, partial(handler, directory=str(folder)))
