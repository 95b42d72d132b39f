"""Connections, requests and replies of the demonstration: a thread for each connection, one request for each.

Whatever is wrong, the client is told in one line of JSON, `{"error": ...}`, by the right status, and never more. Slow
clients are cut off: all of a request must be here, and all of a reply gone, within so many seconds.
"""

from __future__ import annotations

import contextlib
import http.server
import math
import socket
import socketserver
import sys
import time
import traceback
import urllib.parse
from collections.abc import Callable
from typing import Any

from vfmerge.errors import InputError, one_line

from . import page
from .gate import Gate
from .refusal import Refusal
from .service import Reply, Service, plain, static
from .turns import Turns

CONNECTIONS = 32  # at once; more wait to be accepted
HEAD_SECONDS, BODY_SECONDS, REPLY_SECONDS, DRAIN_SECONDS = 10.0, 30.0, 30.0, 10.0  # chosen here
LAST_SECONDS = 10.0  # for the request that is worked on when the server is to end
TOKEN = "X-Vfmerge-Token"

_POLL = 0.2  # seconds between two looks at the clock
_PIECE = 1 << 16
_HEADERS = {
    "Content-Security-Policy": page.POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Listens as soon as it is made, and answers within `serve`."""

    allow_reuse_address = True
    daemon_threads = True  # whoever still waits for a client does not keep the process
    request_queue_size = 128
    timeout = _POLL

    def __init__(self, host: str, port: int, *, service: Service, gate: Gate, turns: Turns) -> None:
        """port: 0 takes a free one. Raises InputError for an address that cannot be listened at."""
        self.service, self.gate, self.turns = service, gate, turns
        self._due: dict[socket.socket, float] = {}  # when each connection is cut off
        try:
            self.address_family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            super().__init__((str(place[0]), int(place[1])), _Handler)
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(one_line(f"--host {host} --port {port}: {reason}; give another, or --port 0")) from None

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def serve(self, until: Callable[[], object]) -> None:
        """Answer until asked to stop; whoever is at work then is waited for, but not long."""
        while not until():
            if len(self._due) < CONNECTIONS:
                self.handle_request()
            else:
                time.sleep(_POLL)
            self._cut_slow()
        self.socket.close()
        with contextlib.suppress(Refusal), self.turns.turn(patience=LAST_SECONDS):
            pass

    def allow(self, connection: socket.socket, seconds: float) -> None:
        """Give a connection time for what comes next."""
        self._due[connection] = time.monotonic() + seconds

    def process_request(self, request: Any, client_address: Any) -> None:
        self.allow(request, HEAD_SECONDS)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._due.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are no news."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            traceback.print_exc()

    def _cut_slow(self) -> None:
        """End what overdue connections still send: what is read then is what there was."""
        now = time.monotonic()
        for connection, due in list(self._due.items()):
            if now > due:
                again = self._due.get(connection) == -math.inf
                self._due[connection] = -math.inf
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR if again else socket.SHUT_RD)


class _Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "vfmerge", ""

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, make: Callable[[], Reply]) -> None:
        self._unread = self.command == "POST"
        try:
            self._check()
            reply = make()
        except Refusal as refusal:
            reply = plain({"error": str(refusal)}, status=refusal.status, retry_after=refusal.retry_after)
        except ConnectionError:
            raise
        except Exception:
            traceback.print_exc()
            reply = plain({"error": "the model failed on this; the terminal of `vfmerge demo` says why"}, status=500)
        self._send(reply)

    def _check(self) -> None:
        """Raises Refusal for a request that is not for this server, or not from its page."""
        hosts = self.headers.get_all("Host", [])
        self.server.gate.check_host(hosts)
        self._place, _, query = self.path.partition("?")
        if static(self._place) is None or self._place == "/":
            shown = dict(urllib.parse.parse_qsl(query)).get("token")
            self.server.gate.check_token(self.headers.get(TOKEN, shown))
        if self.command == "POST":
            self.server.gate.check_origin(self.headers.get_all("Origin", []), host=hosts[0])

    def _get(self) -> Reply:
        return static(self._place) or self.server.service.get(self._place)

    def _post(self) -> Reply:
        most, kind = self.server.service.most(self._place)
        length = self._length(most=most)
        if self.headers.get_content_type() != kind:
            raise Refusal(415, f"Content-Type: {self.headers.get_content_type()} is not taken here; send {kind}")
        with self.server.turns.place():
            body = self._read(length)
            self.server.allow(self.connection, math.inf)
            return self.server.service.post(self._place, body)

    def _length(self, *, most: int) -> int:
        """How many bytes the body has. Raises Refusal for one that does not say, or has too many."""
        text = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not (text.isascii() and text.isdecimal()):
            raise Refusal(411, "Content-Length: is missing; say how many bytes are sent")
        if len(text) > 18 or int(text) > most:
            raise Refusal(413, f"{_amount(text)} are too many; at most {_amount(str(most))} are taken")
        return int(text)

    def _read(self, length: int) -> bytes:
        """The body. Raises Refusal for one that ends early or comes too slowly."""
        self.server.allow(self.connection, BODY_SECONDS)
        if self._expected:
            self.send_response_only(100)
            self.end_headers()
        body = self.rfile.read(length)
        self._unread = False
        if len(body) < length:
            raise Refusal(408, f"only {len(body):,} of {length:,} bytes came in time; send it again")
        return body

    def handle_expect_100(self) -> bool:
        """A client that asks before it sends is answered when its request was found good."""
        self._expected = True
        return True

    _expected = False
    _unread = False

    def _send(self, reply: Reply) -> None:
        self.server.allow(self.connection, REPLY_SECONDS)
        self.close_connection = True
        self.send_response(reply.status)
        headers = _HEADERS | {"Content-Type": reply.kind, "Content-Length": str(len(reply.body)), "Connection": "close"}
        if reply.retry_after is not None:
            headers["Retry-After"] = str(reply.retry_after)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)
        if self._unread:
            self._drain()

    def _drain(self) -> None:
        """Let go by what a refused client still sends: closed at once, it would lose the reply to a reset."""
        self.server.allow(self.connection, DRAIN_SECONDS)
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            while self.connection.recv(_PIECE):
                pass

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the library refuses by itself: requests that it cannot read, and methods that there are not."""
        self.close_connection = True
        reply = plain({"error": one_line(message or "the request cannot be read")}, status=int(code))
        self._unread = self.command not in (None, "GET", "HEAD")
        self._send(reply)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged: their addresses may hold the token."""


def _amount(text: str) -> str:
    """A number of bytes in words."""
    count = int(text[:18])
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count:,} bytes"


def listen(service: Service, turns: Turns, *, host: str, port: int) -> Server:
    """A server at an address, with a token if others can reach it."""
    return Server(host, port, service=service, gate=Gate.of(host), turns=turns)
