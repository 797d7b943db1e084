"""One computation for all who ask the dashboard for the same thing at about the same time.

A study of 5,000 trials takes 0.7 s to put into JSON, and Python computes one answer at a time: three pages that open
together would each wait for three. An answer is given out again for a few times as long as it took to compute, and
never longer than the page itself waits between two refreshes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

KEPT_FOR = 4.0  # times as long as it took
MAX_SECONDS = 8.0  # the page waits 10 for studies so large; the dashboard's own trials may be 10 old
MAX_KEPT = 16  # answers

Answer = tuple[str, list[tuple[str, str]], bytes]


@dataclass
class _Entry:
    lock: threading.Lock = field(default_factory=threading.Lock)
    answer: Answer | None = None
    fresh_until: float = 0.0


class Shared:
    """A WSGI application that gives out answers about studies more than once; a write makes all of them stale.

    `one_at_a_time` is held while an answer is computed; others that compute for long in this process may hold it too.
    """

    def __init__(self, app: WSGIApplication, one_at_a_time: threading.Lock | None = None) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._one_at_a_time = one_at_a_time or threading.Lock()
        self._entries: dict[tuple[str, ...], _Entry] = {}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, as WSGI has it."""
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
        if method not in ("GET", "HEAD"):
            try:
                return self._app(environ, start_response)
            finally:
                self._forget()
        if method == "HEAD" or not path.startswith("/api/studies/"):
            return self._app(environ, start_response)
        gzip = "gzip" in environ.get("HTTP_ACCEPT_ENCODING", "")
        entry = self._entry((path, environ.get("QUERY_STRING", ""), str(gzip)))
        with entry.lock:
            if entry.answer is None or time.monotonic() >= entry.fresh_until:
                entry.answer = None
                # Threads that compute at once only slow each other down, and all that is short beside them.
                with self._one_at_a_time:
                    start = time.monotonic()
                    entry.answer = _whole(self._app, environ)
                end = time.monotonic()
                if entry.answer[0].startswith("200"):
                    entry.fresh_until = end + min(MAX_SECONDS, KEPT_FOR * (end - start))
            status, headers, body = entry.answer
        start_response(status, list(headers))
        return [body]

    def _entry(self, key: tuple[str, ...]) -> _Entry:
        with self._lock:
            entry = self._entries.pop(key, None) or _Entry()
            self._entries[key] = entry  # the one asked for last is the last to go
            while len(self._entries) > MAX_KEPT:
                del self._entries[next(iter(self._entries))]
            return entry

    def _forget(self) -> None:
        with self._lock:
            self._entries.clear()


def _whole(app: WSGIApplication, environ: WSGIEnvironment) -> Answer:
    started: list[Any] = []

    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        started[:] = [status, headers]

    answer = app(environ, start)
    try:
        body = b"".join(answer)
    finally:
        if hasattr(answer, "close"):
            answer.close()
    return started[0], started[1], body
