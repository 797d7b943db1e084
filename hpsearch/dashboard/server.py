"""A small threaded HTTP server for a WSGI application.

The standard library's: a thread for each connection, because browsers open connections ahead of need and leave them
idle, which would block a server with one thread.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import sys
import threading
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from hpsearch.errors import ConfigError

MAX_CONNECTIONS = 64  # open at once; more are closed without an answer
IDLE_SECONDS = 20.0  # longest silence of a connection

logger = logging.getLogger(__name__)


class Server(ThreadingMixIn, WSGIServer):
    """Listens at `host`:`port`, 0 for a free port, and serves what `set_app` is given.

    Raises:
        ConfigError: the host is not known here, or the port is taken or not permitted.
    """

    daemon_threads = True  # a request that still computes does not hold up the end
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, host: str, port: int) -> None:
        self.address_family, address = resolve(host)
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        try:
            super().__init__((address, port), _Handler)
        except OSError as error:
            raise ConfigError(
                f"--port {port} cannot be opened on {host}: {error.strerror}.\nAllowed: a free port; 0 takes one."
            ) from None

    def server_bind(self) -> None:
        """Bind without asking DNS for this machine's name, which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for a connection, if there are not too many."""
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._slots.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The life of one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what went wrong with a connection; a client that goes away is no news."""
        error = sys.exception()
        level = logging.DEBUG if isinstance(error, OSError) else logging.ERROR
        logger.log(level, "a connection failed", exc_info=error)


class _Handler(WSGIRequestHandler):
    timeout = IDLE_SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Tell the log, without the query, which may hold a token."""
        logger.debug("%s %s", self.command, getattr(self, "path", "").partition("?")[0])


def resolve(host: str) -> tuple[socket.AddressFamily, str]:
    """The address to bind to for a name.

    Raises:
        ConfigError: the name is not known.
    """
    try:
        found = socket.getaddrinfo(host or "0.0.0.0", None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise ConfigError(
            f"--host {host!r} is not known here.\nAllowed: a name or an address of this machine."
        ) from None
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)  # 127.0.0.1 rather than ::1 for localhost
    return found[0][0], str(found[0][4][0])


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach an address."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def is_wildcard(address: str) -> bool:
    """Whether an address stands for all of this machine's."""
    return ipaddress.ip_address(address.partition("%")[0]).is_unspecified
