"""Each rule of the guard, against the real dashboard over a real socket."""

import base64
import json
import socket
from pathlib import Path

import optuna
import pytest
from serving import serving

from hpsearch.dashboard.app import dashboard_app, study_size
from hpsearch.dashboard.guard import MAX_BODY, Guard, Rules, _host_name
from hpsearch.dashboard.server import MAX_CONNECTIONS
from hpsearch.storage import open_database

TOKEN = "a-token-of-enough-length"
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def db(tmp_path_factory):
    db = open_database(f"sqlite:///{tmp_path_factory.mktemp('guard')}/studies.db", create=True)
    study = optuna.create_study(study_name=HOSTILE, storage=db.optuna_storage(), direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1) + trial.suggest_float("y", 0, 1), n_trials=5)
    yield db
    db.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def closed(db, folder):
    """As `hpsearch dashboard` starts it: loopback, no token, only to look."""
    with serving(dashboard_app(db, Rules(), folder)) as client:
        yield client


@pytest.fixture(scope="module")
def behind_token(db, folder):
    with serving(dashboard_app(db, Rules(token=TOKEN, writable=True), folder)) as client:
        yield client


@pytest.fixture
def writable(tmp_path):
    db = open_database(f"sqlite:///{tmp_path}/studies.db", create=True)
    study = optuna.create_study(study_name="open", storage=db.optuna_storage())
    study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    with serving(dashboard_app(db, Rules(writable=True), tmp_path / "artifacts")) as client:
        client.folder = tmp_path / "artifacts"
        yield client
    db.close()


def test_looking_is_allowed(closed):
    for path in ("/dashboard", "/static/bundle.js", "/api/studies", "/api/studies/1", "/api/meta", "/csv/1"):
        assert closed("GET", path).status == 200, path
    assert closed("GET", "/").status == 302
    [study] = json.loads(closed("GET", "/api/studies").body)["study_summaries"]
    assert study["study_name"] == HOSTILE
    assert len(json.loads(closed("GET", "/api/studies/1?after=3").body)["trials"]) == 2


def test_head_answers_without_a_body(closed):
    answer = closed("HEAD", "/api/studies")
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "localhost@evil.example", "a, localhost"]
)
def test_a_foreign_host_header_is_refused(closed, host):
    answer = closed("GET", "/api/studies", Host=host)
    assert answer.status == 403
    assert b"--allow-host" in answer.body


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.:99", "127.0.0.1", "[::1]:8080"])
def test_the_loopback_names_are_hosts(closed, host):
    assert closed("GET", "/api/studies", Host=host).status == 200


def test_a_request_without_a_host_is_refused(closed):
    with socket.create_connection(("127.0.0.1", closed.port), timeout=600) as raw:
        raw.sendall(b"GET /api/studies HTTP/1.0\r\n\r\n")
        assert b" 403 " in raw.makefile("rb").readline()


def test_all_addresses_but_not_all_names_where_asked_for(db, folder):
    rules = Rules(frozenset({"gpu-7"}), any_address=True)
    with serving(dashboard_app(db, rules, folder)) as client:
        for host, status in {"10.1.2.3:8080": 200, "[fe80::1]": 200, "GPU-7": 200, "evil.example": 403}.items():
            assert client("GET", "/api/meta", Host=host).status == status


@pytest.mark.parametrize(
    ("host", "name"),
    [("a:1", "a"), ("[::1]:2", "::1"), ("A.B.", "a.b"), ("a b", ""), ("a:b", ""), ("[evil]", ""), ("a/b", "")],
)
def test_host_names(host, name):
    assert _host_name(host) == name


WRITES = [
    ("DELETE", "/api/studies/1"),
    ("POST", "/api/studies"),
    ("POST", "/api/studies/1/rename"),
    ("PUT", "/api/studies/1/note"),
    ("POST", "/api/trials/1/tell"),
    ("POST", "/api/artifacts/1"),
    ("DELETE", "/api/artifacts/1/aa"),
    ("POST", "/incompatible-rdb-schema"),
    ("PATCH", "/dashboard"),
    ("OPTIONS", "/api/studies"),
    ("TRACE", "/api/studies"),
]


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_nothing_can_be_changed_unless_writable(closed, method, path):
    answer = closed(method, path, {"study_name": "new", "directions": ["minimize"]}, **closed.own)
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"
    assert "--writable" in json.loads(answer.body)["reason"]
    assert len(json.loads(closed("GET", "/api/studies").body)["study_summaries"]) == 1


def test_a_long_refused_body_still_gets_its_answer(closed):
    assert closed("POST", "/api/artifacts/1", b"x" * 900_000, **closed.own).status == 405


def test_writable_means_writable(writable):
    new = {"study_name": "new", "directions": ["minimize"]}
    assert writable("POST", "/api/studies", new, **writable.own).status == 201
    assert writable("PUT", "/api/studies/1/note", {"version": 1, "body": "hello"}, **writable.own).status == 204
    assert writable("POST", "/api/trials/1/tell", {"state": "complete", "values": [0.5]}, **writable.own).status == 204
    assert writable("DELETE", "/api/studies/1", {}, **writable.own).status == 204
    names = [row["study_name"] for row in json.loads(writable("GET", "/api/studies").body)["study_summaries"]]
    assert names == ["new"]


@pytest.mark.parametrize(
    "headers",
    [{}, {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Referer": "http://evil.example/127.0.0.1"}],
    ids=str,
)
def test_a_write_from_elsewhere_is_refused(writable, headers):
    answer = writable("DELETE", "/api/studies/1", {}, **headers)
    assert answer.status == 403
    other_port = writable("DELETE", "/api/studies/1", {}, Origin="http://127.0.0.1:1")
    assert other_port.status == 403
    assert writable("GET", "/api/studies/1").status == 200


def test_a_referer_of_the_same_server_is_enough(writable):
    referer = f"http://{writable.host}/dashboard/studies/1"
    assert writable("DELETE", "/api/studies/1", {}, Referer=referer).status == 204


@pytest.mark.parametrize("values", ["[NaN]", '["nan"]', '{"NaN": 1}', "[1, NaN]"])
@pytest.mark.parametrize("path", ["/api/trials/1/tell", "/api/trials/1/tell//", "/api/trials/1/%74ell"])
def test_nan_is_never_told(writable, values, path):
    body = f'{{"state": "complete", "values": {values}}}'
    answer = writable("POST", path, body, Content_Type="application/json", **writable.own)
    assert answer.status == 422
    assert "nan" in json.loads(answer.body)["reason"]
    [trial] = json.loads(writable("GET", "/api/studies/1").body)["trials"]
    assert trial["state"] == "Running"


def test_bodies_are_bounded_and_say_their_length(writable):
    assert writable("PUT", "/api/studies/1/note", b"x" * (MAX_BODY + 1), **writable.own).status == 413
    chunked = iter([b'{"state": "complete", "values": [NaN]}'])
    assert writable("POST", "/api/trials/1/tell", chunked, Transfer_Encoding="chunked", **writable.own).status == 411
    with socket.create_connection(("127.0.0.1", writable.port), timeout=600) as raw:
        lines = ["POST /api/studies HTTP/1.1", f"Host: {writable.host}", f"Origin: http://{writable.host}"]
        raw.sendall("\r\n".join([*lines, "Content-Length: -5", "", ""]).encode())
        assert b" 400 " in raw.makefile("rb").readline()


def test_files_are_downloads_and_never_pages(writable):
    page = base64.b64encode(b"<script>alert(1)</script>").decode()
    upload = {"file": f"data:text/html;base64,{page}", "filename": "x.html"}
    made = writable("POST", "/api/artifacts/1", upload, **writable.own)
    assert made.status == 201
    id_ = json.loads(made.body)["artifact_id"]
    answer = writable("GET", f"/artifacts/1/{id_}")
    assert answer.body == b"<script>alert(1)</script>"
    assert answer.headers["Content-Disposition"] == "attachment"
    assert answer.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    assert answer.headers["Access-Control-Allow-Origin"] is None
    assert writable("GET", "/artifacts/1/../../studies.db").status == 404
    assert [path.name for path in Path(writable.folder).iterdir()] == [id_]


def test_every_answer_says_how_it_may_be_used(closed):
    for method, path in [("GET", "/dashboard"), ("GET", "/api/studies"), ("POST", "/"), ("GET", "/nowhere")]:
        headers = closed(method, path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "same-origin"
        assert "Python" not in headers["Server"]
    page = closed("GET", "/dashboard").headers
    assert page.get_all("Content-Security-Policy") == [page["Content-Security-Policy"]]
    assert "frame-ancestors 'none'" in page["Content-Security-Policy"]
    assert "script-src 'self'" in page["Content-Security-Policy"]
    assert closed("GET", "/api/studies").headers["Cache-Control"] == "no-store"


PATHS = ["/dashboard", "/static/bundle.js", "/api/studies", "/api/studies/1", "/csv/1", "/artifacts/1/aa", "/nowhere"]


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_nothing_is_shown(behind_token, path):
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Cookie": f"hpsearch_{behind_token.port}={TOKEN}"},  # the cookie holds a digest, not the token
        {"Cookie": f"hpsearch_{behind_token.port}="},
        {"Cookie": "a=b; ;;="},
    ):
        assert behind_token("GET", path, **headers).status == 401
    assert behind_token("GET", f"{path}?token=wrong").status == 401
    assert HOSTILE.encode() not in behind_token("GET", path).body


def test_the_token_as_bearer(behind_token):
    assert behind_token("GET", "/api/studies", Authorization=f"Bearer {TOKEN}").status == 200
    new = {"study_name": "by-script", "directions": ["minimize"]}
    made = behind_token("POST", "/api/studies", new, Authorization=f"bearer {TOKEN}")  # no browser: no Origin
    assert made.status == 201
    id_ = json.loads(made.body)["study_summary"]["study_id"]
    assert behind_token("DELETE", f"/api/studies/{id_}", {}, Authorization=f"Bearer {TOKEN}").status == 204


def test_the_token_in_the_address_becomes_a_cookie(behind_token):
    answer = behind_token("GET", f"/dashboard?order=desc&token={TOKEN}")
    assert (answer.status, answer.headers["Location"]) == (303, "/dashboard?order=desc")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite" in cookie
    assert TOKEN not in cookie
    assert behind_token("GET", "/api/studies", Cookie=f"other=1; {cookie.partition(';')[0]}").status == 200
    assert behind_token("GET", f"/%2Fevil.example/?token={TOKEN}").headers["Location"] == "/evil.example/"


def test_the_login_page(behind_token):
    page = behind_token("GET", "/dashboard", Accept="text/html")
    assert (page.status, page.headers["Content-Type"]) == (401, "text/html; charset=utf-8")
    assert b'name="token"' in page.body
    kind = {"Content_Type": "application/x-www-form-urlencoded"}
    wrong = behind_token("POST", "/login", "token=wrong", **kind, **behind_token.own)
    assert wrong.status == 401
    assert b"not the token" in wrong.body
    foreign = behind_token("POST", "/login", f"token={TOKEN}", Origin="http://evil.example", **kind)
    assert foreign.status == 403
    right = behind_token("POST", "/login", f"token={TOKEN}", **kind, **behind_token.own)
    assert (right.status, right.headers["Location"]) == (303, "/")
    cookie = {"Cookie": right.headers["Set-Cookie"].partition(";")[0]}
    assert behind_token("GET", "/dashboard", **cookie).status == 200
    note = {"version": 1, "body": "written"}
    assert behind_token("PUT", "/api/studies/1/note", note, **cookie).status == 403  # a cookie comes by itself
    assert behind_token("PUT", "/api/studies/1/note", note, **cookie, **behind_token.own).status == 204


@pytest.mark.parametrize(("plot", "sizes", "drawn"), [
    ("contour", (1000, 2), True), ("contour", (1001, 2), False), ("contour", (500, 5), False),
    ("rank", (5000, 2), True), ("rank", (5000, 6), False), ("slice", (5000, 20), True), ("edf", (5000, 20), True),
])  # fmt: skip
def test_plots_that_grow_too_fast_are_capped(plot, sizes, drawn):
    def app(environ, start_response):
        start_response("200 OK", [])
        return [b"drawn"]

    with serving(Guard(app, Rules(), lambda study_id: sizes)) as client:
        answer = client("GET", f"/api/studies/1/plot/{plot}/")
    assert (answer.body == b"drawn") == drawn
    if not drawn:  # a figure that says why, since that is all the page shows
        note = json.loads(answer.body)["layout"]["annotations"][0]["text"]
        assert f"{sizes[0]} trials are too many" in note


def test_small_plots_are_drawn_and_studies_measured(db, closed):
    assert study_size(db, 1) == (5, 2)
    assert study_size(db, 99) == (0, 0)
    assert json.loads(closed("GET", "/api/studies/1/plot/contour").body)["data"]


def test_idle_connections_do_not_block_and_do_not_pile_up(closed):
    idle = [socket.create_connection(("127.0.0.1", closed.port), timeout=600) for _ in range(MAX_CONNECTIONS - 4)]
    try:
        assert closed("GET", "/api/meta").status == 200
        more = [socket.create_connection(("127.0.0.1", closed.port), timeout=600) for _ in range(8)]
        idle += more
        assert more[-1].recv(1) == b""  # closed at once
    finally:
        for connection in idle:
            connection.close()
