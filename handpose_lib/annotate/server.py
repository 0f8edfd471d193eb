"""The page's server, for this computer and one reader: a token in the address, no other host, no path but its own."""

import io
import json
import re
import secrets
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from importlib.resources import files
from typing import Any

from PIL import Image

from handpose_lib.annotate.store import LabelChangedError, LabelStore
from handpose_lib.keypoints import BONES, FINGER_COLOURS, FINGERS, KEYPOINT_NAMES, WRIST_COLOUR
from handpose_lib.pictures import read_picture
from handpose_lib.web.server import HOST, LocalServer

PAGE = {  # what the page consists of, and what it is
    "": ("page.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
}
MOST_BYTES = 16_384  # of a label that comes in: 21 points are a tenth of that
SHOWN = 1600  # px; longer sides are shown smaller
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class AnnotationServer(LocalServer):
    """Serves the page on labels of one folder; `address` is where.

    Args:
        store: the labels.
        port: on 127.0.0.1; 0: any that is free.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, store: LabelStore, port: int = 0):
        self.store = store
        self.token = secrets.token_urlsafe(16)
        super().__init__(port, _Handler)
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}

    @property
    def address(self) -> str:
        """What to open in the browser; without its token nothing is answered."""
        return f"{super().address}{self.token}/"


class _Refused(Exception):
    """A request that gets no answer but a status and a sentence."""

    def __init__(self, status: HTTPStatus, sentence: str):
        super().__init__(sentence)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: AnnotationServer
    timeout = 60  # s; a client that sends half a request does not hold a thread for ever

    def log_message(self, *arguments: Any) -> None:
        """The terminal is left to what matters."""

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_PUT(self) -> None:
        self._answer(self._put)

    def do_DELETE(self) -> None:
        self._answer(lambda path: self._json(self.server.store.remove(self._number(path, "hand"), *self._version())))

    def _answer(self, method: Any) -> None:
        try:
            method(self._own_path())
        except _Refused as error:
            self._say(error.status, str(error))
        except LabelChangedError as error:
            self._say(HTTPStatus.PRECONDITION_FAILED, str(error))
        except (ValueError, RecursionError) as error:
            self._say(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
        except ConnectionError:
            pass
        except FileNotFoundError as error:
            self._say(HTTPStatus.NOT_FOUND, str(error))
        except OSError as error:
            self._say(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        except Exception as error:  # of the network, such as a GPU without memory
            self.server.handle_error(self.request, self.client_address)
            first = str(error).partition("\n")[0]
            sentence = f"{type(error).__name__}: {first} (more in the terminal of `handpose annotate`)"
            self._say(HTTPStatus.INTERNAL_SERVER_ERROR, sentence)

    def _say(self, status: HTTPStatus, sentence: str) -> None:
        self._send(status, "text/plain; charset=utf-8", sentence.encode(errors="backslashreplace"))

    def _own_path(self) -> str:
        """The path behind the token; refuses whoever is not the page itself."""
        # A page of another site may have its name resolved to 127.0.0.1; its Host header then tells.
        if self.headers.get("Host") not in self.server.hosts:
            raise _Refused(HTTPStatus.FORBIDDEN, "this page is for this computer alone")
        origin = self.headers.get("Origin")
        if origin is not None and origin.removeprefix("http://") not in self.server.hosts:
            raise _Refused(HTTPStatus.FORBIDDEN, "another page may not ask")
        token, _, path = self.path.split("?")[0].lstrip("/").partition("/")
        if not secrets.compare_digest(token.encode(), self.server.token.encode()):
            raise _Refused(HTTPStatus.NOT_FOUND, "open the address that `handpose annotate` printed")
        return path

    def _get(self, path: str) -> None:
        store = self.server.store
        if path in PAGE:
            name, kind = PAGE[path]
            self._send(HTTPStatus.OK, kind, files("handpose_lib.annotate").joinpath(name).read_bytes())
        elif path == "state":
            self._json(store.overview() | SKELETON)
        elif path.startswith("picture/"):
            self._send(HTTPStatus.OK, "image/jpeg", _jpeg(store.files[self._number(path, "picture")]))
        else:
            self._json(store.hand(self._number(path, "hand")))

    def _put(self, path: str) -> None:
        number = self._number(path, "hand")
        length = self.headers.get("Content-Length") or ""
        if not length.isdecimal() or int(length) > MOST_BYTES:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a label has at most {MOST_BYTES:,} bytes")
        if self.headers.get_content_type() != "application/json":
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a label is JSON")
        label = json.loads(self.rfile.read(int(length)))
        self._json(self.server.store.save(number, label, *self._version()))

    def _version(self) -> tuple[str | None, str | None]:
        """The version of the label that a window shows and wants to change, and which window that is."""
        return self.headers.get("If-Match"), self.headers.get("Window")

    def _number(self, path: str, kind: str) -> int:
        """Which picture a path such as `hand/12` means: pictures are asked for by number, never by name."""
        found = re.fullmatch(rf"{kind}/(\d{{1,6}})", path)
        if not found or int(found[1]) >= len(self.server.store.files):
            raise _Refused(HTTPStatus.NOT_FOUND, "there is nothing of this name")
        return int(found[1])

    def _json(self, content: Any) -> None:
        self._send(HTTPStatus.OK, "application/json", json.dumps(content).encode())

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        for name, value in (HEADERS | {"Content-Type": kind, "Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def _jpeg(path: Any) -> bytes:
    """A picture as the page shows it: turned as viewers turn it, not larger than a screen."""
    picture = Image.fromarray(read_picture(path, SHOWN))
    picture.thumbnail((SHOWN, SHOWN))
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=92)
    return encoded.getvalue()


SKELETON = {
    "keypoints": list(KEYPOINT_NAMES),
    "bones": [list(bone) for bone in BONES],
    "colours": [
        next((FINGER_COLOURS[name] for name, finger in FINGERS.items() if k in finger), WRIST_COLOUR)
        for k in range(len(KEYPOINT_NAMES))
    ],
}
