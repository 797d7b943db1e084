"""What stands before the dashboard: optuna-dashboard itself lets anybody who reaches its port read, tell and delete.

Pure WSGI. In this order: the Host header (DNS rebinding), the token, the method, the origin of a write (CSRF), the
size and content of its body, the size of the answer. Every refusal is JSON with a `reason`, which the page shows.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import ipaddress
import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    Answer = Iterable[bytes]
    Headers = list[tuple[str, str]]

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
MAX_BODY = 1 << 20  # bytes of a write
MAX_UPLOAD = 64 << 20  # bytes of an uploaded artifact, base64 in JSON
MAX_LOGIN = 4096  # bytes of what the login page sends
MAX_DRAIN = 1 << 20  # bytes of a refused request that are still read, so that its sender hears why
MAX_CELLS = 1_000_000  # of the grids of a contour plot, trials x trials for each pair; 13 bytes of JSON each
RANK_CELLS = 10  # what a point of a rank plot costs beside a cell
COOKIE_SECONDS = 30 * 86400  # how long a browser stays logged in

PLOT = re.compile(r"/api/studies/(\d+)/plot/(contour|rank)")
TELL = re.compile(r"/api/trials/-?\d+/tell")
HEADERS = (
    ("Server", "hpsearch"),  # and not which Python
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
FRAMING = "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
LOGIN_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>hpsearch dashboard</title><style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 26rem; margin: 15vh auto; padding: 0 1rem }}
input, button {{ font: inherit; padding: .4rem .6rem; width: 100%; box-sizing: border-box; margin: .3rem 0 }}
</style></head><body><h1>hpsearch dashboard</h1><p role="alert">{message}</p>
<form method="post" action="/login"><label>Token <input name="token" type="password" autocomplete="current-password"
autofocus required></label><button>Log in</button></form></body></html>
"""


@dataclass(frozen=True)
class Rules:
    """Who may ask, and for what."""

    hosts: frozenset[str] = LOOPBACK_NAMES
    """Names and addresses, without port, that the Host header may have."""
    any_address: bool = False
    """Also every IP address: names can be rebound by an attacker's DNS, addresses cannot."""
    token: str | None = None
    """What everybody has to show; None asks nobody."""
    writable: bool = False
    """Whether anything may be changed."""


StudySize = Callable[[int], tuple[int, int]]
"""Numbers of trials and of hyperparameters of the study with this id."""


class _RefusedError(Exception):
    def __init__(self, status: int, reason: str, headers: Headers | None = None) -> None:
        self.status, self.reason, self.headers = status, reason, headers or []


class Guard:
    """A WSGI application that hands on to `app` what the rules allow."""

    def __init__(self, app: WSGIApplication, rules: Rules, study_size: StudySize) -> None:
        self._app, self._rules, self._study_size = app, rules, study_size
        self._pass = _digest(rules.token) if rules.token else ""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Answer:
        """Answer a request, as WSGI has it."""
        try:
            self._check_host(environ)
            if (answer := self._log_in(environ, start_response)) is not None:
                return answer
            self._check_write(environ)
        except _RefusedError as refused:
            _drain(environ)
            body = json.dumps({"reason": refused.reason}).encode()
            return _answer(environ, start_response, refused.status, body, "application/json", refused.headers)
        if (reason := self._plot_too_large(environ)) is not None:
            # As a figure, because the page draws whatever comes as one and shows no other message in its place.
            note = {"text": reason, "showarrow": False, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5}
            layout = {"annotations": [note], "xaxis": {"visible": False}, "yaxis": {"visible": False}}
            body = json.dumps({"data": [], "layout": layout, "reason": reason}).encode()
            return _answer(environ, start_response, 200, body, "application/json", [])
        return self._app(environ, _hardened(environ, start_response))

    def _check_host(self, environ: WSGIEnvironment) -> None:
        name = _host_name(environ.get("HTTP_HOST", ""))
        if name in self._rules.hosts or (self._rules.any_address and _is_address(name)):
            return
        raise _RefusedError(
            403, f"the host {name[:100]!r} is not allowed; start the dashboard with --allow-host to add it"
        )

    def _log_in(self, environ: WSGIEnvironment, start_response: StartResponse) -> Answer | None:
        """None if the token was shown; else a way in, or a refusal."""
        token = self._rules.token
        if token is None:
            return None
        path, method = environ.get("PATH_INFO", ""), environ["REQUEST_METHOD"]
        if path == "/login" and method == "POST":
            _check_origin(environ)
            form = parse_qs(_read_body(environ, MAX_LOGIN).decode("utf-8", "replace"))
            if _same(form.get("token", [""])[0], token):
                return self._let_in(environ, start_response, "/")
            return _login_page(environ, start_response, "This is not the token.")
        query = parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        shown = [value for name, value in query if name == "token"]
        if method in ("GET", "HEAD") and shown and _same(shown[0], token):  # out of the address bar at once
            rest = urlencode([(name, value) for name, value in query if name != "token"])
            where = "/" + quote(path.lstrip("/")) + (f"?{rest}" if rest else "")
            return self._let_in(environ, start_response, where)
        scheme, _, credentials = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() == "bearer" and _same(credentials.strip(), token):
            environ["hpsearch.bearer"] = True
            return None
        if _same(_cookie(environ), self._pass):
            return None
        if method == "GET" and "text/html" in environ.get("HTTP_ACCEPT", ""):
            return _login_page(environ, start_response, "Give the token that the dashboard was started with.")
        raise _RefusedError(401, "a token is needed; open the page again to log in", [("WWW-Authenticate", "Bearer")])

    def _let_in(self, environ: WSGIEnvironment, start_response: StartResponse, where: str) -> Answer:
        cookie = f"{_cookie_name(environ)}={self._pass}; Path=/; HttpOnly; SameSite=Lax; Max-Age={COOKIE_SECONDS}"
        headers = [("Location", where), ("Set-Cookie", cookie)]
        return _answer(environ, start_response, 303, b"", "text/plain", headers)

    def _check_write(self, environ: WSGIEnvironment) -> None:
        method = environ["REQUEST_METHOD"]
        if method in ("GET", "HEAD"):
            return
        if not self._rules.writable or method not in ("POST", "PUT", "DELETE"):
            allowed = "GET, HEAD, POST, PUT, DELETE" if self._rules.writable else "GET, HEAD"
            raise _RefusedError(
                405, "this dashboard only shows; start it with --writable to change studies", [("Allow", allowed)]
            )
        if not environ.get("hpsearch.bearer"):  # no browser adds that header by itself
            _check_origin(environ)
        path = environ.get("PATH_INFO", "")
        body = _read_body(environ, MAX_UPLOAD if path.startswith("/api/artifacts/") else MAX_BODY)
        environ["wsgi.input"] = io.BytesIO(body)
        if TELL.fullmatch(path.rstrip("/")) and _tells_nan(body):
            raise _RefusedError(422, "nan cannot be told as a value: it would make the study unreadable")

    def _plot_too_large(self, environ: WSGIEnvironment) -> str | None:
        """Why a plot is not drawn; None if it is, or is no plot."""
        match = PLOT.fullmatch(environ.get("PATH_INFO", "").rstrip("/"))
        if match is None:
            return None
        num_trials, num_params = self._study_size(int(match[1]))
        num_grids = num_params * (num_params - 1) if num_params > 2 else 1
        cells = num_grids * (num_trials**2 if match[2] == "contour" else num_trials * RANK_CELLS)
        if cells <= MAX_CELLS:
            return None
        most = math.isqrt(MAX_CELLS // num_grids) if match[2] == "contour" else MAX_CELLS // num_grids // RANK_CELLS
        return f"{num_trials} trials are too many for this plot; the most is {most} with {num_params} hyperparameters"


def _digest(token: str) -> str:
    """What the cookie holds: enough to be let in here, and not the token itself."""
    return hmac.new(token.encode(), b"hpsearch dashboard", hashlib.sha256).hexdigest()


def _same(one: str, other: str) -> bool:
    return bool(one) and hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))


def _cookie_name(environ: WSGIEnvironment) -> str:
    return f"hpsearch_{environ.get('SERVER_PORT', '')}"  # browsers send a cookie to all ports of a host


def _cookie(environ: WSGIEnvironment) -> str:
    try:
        morsel = SimpleCookie(environ.get("HTTP_COOKIE", "")).get(_cookie_name(environ))
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def _host_name(host: str) -> str:
    """`localhost` of `LOCALHOST.:8080`, `::1` of `[::1]:8080`; empty for what is no host."""
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^\s:/@\[\],]+))(?::\d+)?", host.strip())
    return (match[1] or match[2]).lower().removesuffix(".") if match else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _check_origin(environ: WSGIEnvironment) -> None:
    """Whether a write comes from a page of this very server; browsers say so for every write."""
    source = environ.get("HTTP_ORIGIN") or environ.get("HTTP_REFERER") or ""
    try:
        parts = urlsplit(source)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme in ("http", "https") and parts.netloc.lower() == environ.get("HTTP_HOST", "").strip().lower():
        return
    raise _RefusedError(
        403, "a change must come from a page of this dashboard, or with the token as Authorization: Bearer"
    )


def _read_body(environ: WSGIEnvironment, limit: int) -> bytes:
    """The whole body; refused if it is longer than `limit` bytes, or does not say how long."""
    if environ.get("HTTP_TRANSFER_ENCODING"):
        raise _RefusedError(411, "a body must say its length")
    text = environ.get("CONTENT_LENGTH") or "0"
    if not (text.isascii() and text.isdigit()):
        raise _RefusedError(400, "Content-Length is not a number")
    if int(text[:20]) > limit:
        raise _RefusedError(413, f"the request is too long; the most is {limit} bytes")
    body: bytes = environ["wsgi.input"].read(int(text))
    if len(body) != int(text):
        raise _RefusedError(400, "the request ended early")
    return body


def _drain(environ: WSGIEnvironment) -> None:
    """Read what is left of a refused request: to close on unread bytes would reset the connection."""
    text = environ.get("CONTENT_LENGTH") or "0"
    if text.isascii() and text.isdigit():
        environ["wsgi.input"].read(min(int(text[:20]), MAX_DRAIN))


def _tells_nan(body: bytes) -> bool:
    """Whether any of the told values would become nan; read as the dashboard reads it."""
    try:
        return any(math.isnan(float(value)) for value in json.loads(body)["values"])
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return False  # the dashboard refuses these itself


def _hardened(environ: WSGIEnvironment, start_response: StartResponse) -> StartResponse:
    """Adds headers to what the dashboard answers, and takes those away that would let other sites read it."""
    path = environ.get("PATH_INFO", "")

    def start(status: str, headers: Headers, exc_info: Any = None) -> Any:
        names = {name for name, _ in HEADERS}
        kept = [(k, v) for k, v in headers if k not in names and not k.lower().startswith("access-control-")]
        policies = [value for name, value in kept if name.lower() == "content-security-policy"]
        kept = [(name, value) for name, value in kept if name.lower() != "content-security-policy"]
        if path.startswith("/artifacts/"):  # somebody's file: never a page of ours
            policies = ["sandbox; default-src 'none'"]
            kept.append(("Content-Disposition", "attachment"))
        kept.append(("Content-Security-Policy", "; ".join([*policies, FRAMING])))
        if path.startswith(("/api/", "/csv/", "/artifacts/")):
            kept = [(name, value) for name, value in kept if name.lower() != "cache-control"]
            kept.append(("Cache-Control", "no-store"))
        return start_response(status, [*kept, *HEADERS], exc_info)

    return start


def _login_page(environ: WSGIEnvironment, start_response: StartResponse, message: str) -> Answer:
    policy = f"default-src 'none'; style-src 'unsafe-inline'; {FRAMING}"
    page = LOGIN_PAGE.format(message=message).encode()
    return _answer(environ, start_response, 401, page, "text/html", [("Content-Security-Policy", policy)])


def _answer(
    environ: WSGIEnvironment, start_response: StartResponse, status: int, body: bytes, kind: str, headers: Headers
) -> Answer:
    common = [
        ("Content-Type", f"{kind}; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
    ]
    start_response(f"{status} {HTTPStatus(status).phrase}", [*common, *headers, *HEADERS])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
