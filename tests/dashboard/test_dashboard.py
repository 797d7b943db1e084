"""The dashboard's panels, notes and weights; what it does under load; and the command."""

import gzip
import html
import json
import os
import re
import signal
import socket
import threading
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import optuna
import pytest
from chromium import CHROMIUM, chromium, open_context
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from planted import plant
from serving import serving
from warm_commands import warm_commands

import hpsearch
from hpsearch.analysis import attributes, records
from hpsearch.dashboard import panels
from hpsearch.dashboard.app import KeptWeights, dashboard_app
from hpsearch.dashboard.compression import Compressed
from hpsearch.dashboard.guard import Rules
from hpsearch.dashboard.note import END, as_markdown, joined
from hpsearch.dashboard.shared_answers import Shared
from hpsearch.storage import RungQueue, find_study, open_database
from hpsearch.storage.system_attributes import read_system_attrs
from hpsearch.worker.best_weights import announce_portrait

HOSTILE = "<img src=x onerror=alert(1)> [l](javascript:1) `x` **b** | y"


@pytest.fixture
def db(tmp_path):
    db = open_database(f"sqlite:///{tmp_path}/studies.db", create=True)
    yield db
    db.close()


@pytest.fixture
def stages(db):
    """coarse, and fine that came of it."""
    coarse = plant(db, "coarse", num_trials=30)
    reasons = {"lr": "the top 5 lie <b>there</b>", "reg": "given"}
    fine = plant(db, "fine", num_trials=10, lr=(1e-3, 0.1), source="coarse", reasons=reasons)
    return coarse, fine


def detail(db, study, folder):
    with serving(dashboard_app(db, Rules(), folder)) as client:
        return json.loads(client("GET", f"/api/studies/{study.study_id}").body)


def test_figures_and_verdicts_are_in_the_dashboard(db, stages, tmp_path):
    assert panels.refresh_panels(db, "coarse")
    assert panels.refresh_panels(db, "fine")
    coarse, fine = (detail(db, study, tmp_path) for study in stages)
    drawn = {panel["id"]: json.loads(panel["graph_object"]) for panel in coarse["plotly_graph_objects"]}
    names = {"ranges-0", "ranges-1", "landscape-0", "explosions-0", "gap-0", "updates-0"}
    assert set(drawn) == {f"hpsearch-{name}" for name in names}
    assert all(figure["data"] and figure["layout"]["title"]["text"] for figure in drawn.values())
    ranges = {panel["id"]: json.loads(panel["graph_object"]) for panel in fine["plotly_graph_objects"]}
    assert ranges["hpsearch-ranges-0"]["layout"]["yaxis"]["ticktext"] == ["coarse", "fine"]
    note = fine["note"]["body"].replace("\\", "")
    best = max(fine["trials"], key=lambda trial: trial["values"][0])
    for text in (f"trial {best['number']}", "Ranges from** coarse", "<b>there</b>", "healthy", "fine --from fine"):
        assert text in note, text


def test_what_counts_together_is_in_the_note_and_nothing_is_fitted_for_it(db, tmp_path, monkeypatch):
    monkeypatch.setattr("hpsearch.report.stage.seen_together", None)  # called, it would fail
    plant(db, "coarse", num_trials=30)
    together = {"params": ["lr", "reg"], "study": "coarse"}
    kept = {attributes.PROVENANCE: {"from": "coarse", "ranges": [], "together": together}}
    fine = plant(db, "fine", num_trials=10, source="coarse", **kept)
    assert panels.refresh_panels(db, "coarse")
    assert panels.refresh_panels(db, "fine")
    note = detail(db, fine, tmp_path)["note"]["body"].replace("\\", "")
    assert "**Together:** lr and reg count together, by the trials of coarse: no range of one alone" in note


def test_a_training_has_its_panels_but_no_ranges_and_an_advice(db, tmp_path):
    study = {
        "data": {"source": "synthetic", "synthetic": {"shape": [1, 4, 4], "classes": 3, "train": 90, "test": 9}},
        "model": {"hidden": [6]},
        "train": {"epochs": 2},
        "run": {"device": "cpu", "threads": 1, "artifact_dir": str(tmp_path / "artifacts")},
    }
    training = hpsearch.train(study, seeds=3, storage=f"sqlite:///{db.path}")
    assert panels.refresh_panels(db, "train")
    shown = detail(db, training.evidence.study, tmp_path)
    assert {panel["id"] for panel in shown["plotly_graph_objects"]} >= {"hpsearch-gap-0", "hpsearch-updates-0"}
    assert not any("ranges" in panel["id"] for panel in shown["plotly_graph_objects"])
    assert re.search("hpsearch (coarse --from train|train --name train-2)", shown["note"]["body"].replace("\\", ""))


def test_the_list_of_studies_stays_small(db, stages, tmp_path):
    with serving(dashboard_app(db, Rules(), tmp_path)) as client:
        before = len(client("GET", "/api/studies").body)
        panels.refresh_panels(db, "coarse")
        assert len(client("GET", "/api/studies").body) == before


def test_many_trials_fit_into_the_panels_and_the_best_is_among_them(db):
    plant(db, "coarse", num_trials=900, epochs=1)
    chain = panels.read_chain(db, "coarse")
    figures = dict(panels.drawn(chain))
    assert len(figures) == 6
    assert sum(len(figure.to_json()) for figure in figures.values()) < panels.MAX_PANELS_BYTES
    best = f"trial {chain[-1].best.number}:"
    texts = [text for trace in figures["hpsearch-gap-0"].data for text in trace.text or ()]
    assert panels.MAX_POINTS * 0.5 < len(texts) <= panels.MAX_POINTS + 2
    assert any(text.startswith(best) for text in texts)


def test_what_is_too_large_is_left_out(db, stages, monkeypatch):
    monkeypatch.setattr(panels, "MAX_PANELS_BYTES", 15_000)
    figures = dict(panels.drawn(panels.read_chain(db, "coarse")))
    assert 0 < sum(len(figure.to_json()) for figure in figures.values()) <= 15_000


def test_what_has_not_changed_is_not_written(db, stages, monkeypatch):
    panels.refresh_panels(db, "fine")
    monkeypatch.setattr(panels, "write_system_attrs", None)
    assert panels.refresh_panels(db, "fine")


def test_a_figure_that_shrinks_leaves_nothing_behind(db, stages, tmp_path, monkeypatch):
    panels.refresh_panels(db, "coarse")
    monkeypatch.setattr(panels, "MAX_POINTS", 3)
    panels.refresh_panels(db, "coarse")
    for panel in detail(db, stages[0], tmp_path)["plotly_graph_objects"]:
        assert json.loads(panel["graph_object"])["data"]


def test_a_failure_is_only_a_warning(db, stages, monkeypatch, caplog):
    monkeypatch.setattr(panels, "PANELS", {"broken": lambda chain: 1 / 0})
    with caplog.at_level("WARNING", logger="hpsearch"):
        assert not panels.refresh_panels(db, "coarse")
        assert not panels.refresh_panels(db, "nowhere")
    assert read_system_attrs(db, stages[0]) == {}
    assert len(caplog.records) == 2


def test_a_note_keeps_what_people_wrote(db, stages):
    study = optuna.load_study(study_name="coarse", storage=db.optuna_storage())
    from optuna_dashboard import get_note, save_note

    save_note(study, "my own thoughts")
    panels.refresh_panels(db, "coarse")
    assert get_note(study).endswith(f"{END}\n\nmy own thoughts")
    save_note(study, get_note(study) + "\nand more")
    panels.refresh_panels(db, "coarse")
    assert get_note(study).count(END) == 1
    assert get_note(study).endswith("my own thoughts\nand more")
    assert joined("new", joined("old", "theirs")) == f"new\n\n{END}\n\ntheirs"


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_stays_text_in_markdown(text):
    rendered = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(f"start {as_markdown(text)} end")
    shown = "".join(char if char.isprintable() else " " for char in text)
    assert re.sub(r"\s+", " ", html.unescape(rendered)) == re.sub(r"\s+", " ", f"<p>start {shown} end</p>\n")


def test_markdown_of_a_hostile_name_has_no_tag_and_no_link():
    rendered = MarkdownIt("commonmark").enable("table").render(f"| a |\n|---|\n| {as_markdown(HOSTILE)} |")
    assert set(re.findall(r"<(\w+)", rendered)) == {"table", "thead", "tr", "th", "tbody", "td"}


@pytest.fixture
def weights(db, stages, tmp_path):
    """Keeps a file as the weights of trial `number` of coarse, as a search does."""
    folder = tmp_path / "artifacts"
    folder.mkdir()

    def keep(id_, number, content):
        path = folder / id_
        path.write_bytes(content)
        announce_portrait(db, stages[0], records.KeptWeights(path, number, number / 10, 1))

    keep.folder = folder
    return keep


def test_the_weights_of_the_best_trial_can_be_downloaded(db, stages, weights):
    weights("aa11", 3, b"first")
    weights("bb22", 7, b"second")
    [listed] = detail(db, stages[0], weights.folder)["artifacts"]
    assert (listed["filename"], listed["artifact_id"]) == ("trial-7.safetensors", "bb22")
    with serving(dashboard_app(db, Rules(), weights.folder)) as client:
        assert client("GET", "/artifacts/1/bb22").body == b"second"
        assert client("GET", "/artifacts/2/bb22").status == 404  # of another study


def test_a_deleted_study_takes_its_weights_along(db, stages, weights):
    weights("aa11", 3, b"first")
    with serving(dashboard_app(db, Rules(writable=True), weights.folder)) as client:
        assert client("DELETE", "/api/studies/1", {}, **client.own).status == 204
    assert list(weights.folder.iterdir()) == []


@pytest.mark.parametrize("id_", ["../secret", "/etc/passwd", "a/../../secret"])
def test_weights_come_from_their_folder_alone(tmp_path, id_):
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "artifacts").mkdir()
    with pytest.raises((ValueError, optuna.artifacts.exceptions.ArtifactNotFound)):
        KeptWeights(tmp_path / "artifacts").open_reader(id_)


class Rounds(threading.Event):
    """An event that is set after so many waits, each with something done before."""

    def __init__(self, *between):
        super().__init__()
        self.between = list(between)

    def wait(self, timeout=None):
        if self.between:
            return self.between.pop(0)()
        return self.set()


def test_panels_follow_a_running_search_and_leave_other_studies_alone(db, stages, monkeypatch):
    study = optuna.create_study(study_name="theirs", storage=db.optuna_storage())
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    refreshed = []
    monkeypatch.setattr(panels, "refresh_panels", lambda db, name: refreshed.append(name))
    later = Rounds(lambda: None, lambda: plant(db, "fine-2", num_trials=5, source="fine"))
    panels.keep_fresh(db, later, threading.Lock())
    assert refreshed == ["fine", "coarse", "fine-2"]


def test_a_note_follows_trials_that_come_to_wait_at_a_rung(db, monkeypatch):
    """Their state stays what it was."""
    queue = RungQueue(db, plant(db, num_trials=3, finish=False), "host/1/x")
    (lease,) = queue.take_chosen(lambda _standing: {0: 1})
    refreshed = []
    monkeypatch.setattr(panels, "refresh_panels", lambda db, name: refreshed.append(name))
    panels.keep_fresh(db, Rounds(lambda: None, lambda: queue.pause([(lease, 1, {})])), threading.Lock())
    assert refreshed == ["coarse", "coarse"]


def test_panels_survive_a_database_that_goes_away(db, stages, monkeypatch):
    refreshed = []
    monkeypatch.setattr(panels, "refresh_panels", lambda db, name: refreshed.append(name))
    real, db.read = db.read, None
    from hpsearch.storage import StorageAwayError

    def away(_db):
        if db.read is None:
            raise StorageAwayError("away")
        return read_overview(_db)

    read_overview = panels.read_overview
    monkeypatch.setattr(panels, "read_overview", away)
    panels.keep_fresh(db, Rounds(lambda: setattr(db, "read", real)), threading.Lock())
    assert refreshed == ["fine", "coarse"]


def asked(app, path="/api/studies/1", method="GET", encoding="gzip", query=""):
    answer = {}
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query, "HTTP_ACCEPT_ENCODING": encoding}
    body = app(environ, lambda status, headers, exc=None: answer.update(status=status, headers=dict(headers)))
    return {**answer, "body": b"".join(body)}


def test_long_json_comes_compressed_to_those_who_take_it():
    text = json.dumps(list(range(2000))).encode()

    def app(environ, start_response):
        kind = "image/png" if environ["PATH_INFO"] == "/png" else "application/json"
        start_response("200 OK", [("Content-Type", kind), ("Content-Length", str(len(text)))])
        return [text]

    small = asked(Compressed(app))
    assert gzip.decompress(small["body"]) == text
    assert small["headers"]["Content-Encoding"] == "gzip"
    assert int(small["headers"]["Content-Length"]) == len(small["body"]) < len(text)
    for plain in (
        asked(Compressed(app), encoding=""),
        asked(Compressed(app), "/png"),
        asked(Compressed(app), method="HEAD"),
    ):
        assert plain["body"] == text
        assert "Content-Encoding" not in plain["headers"]


class Counting:
    """An application that can be made to wait, and counts how often it is asked."""

    def __init__(self):
        self.count, self.may_go, self.started = 0, threading.Event(), threading.Event()

    def __call__(self, environ, start_response):
        self.count += 1
        self.started.set()
        assert self.may_go.wait(20)
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b"%d" % self.count]


def test_those_who_ask_at_once_share_an_answer(monkeypatch):
    from hpsearch.dashboard import shared_answers as sharing

    app = Counting()
    shared, bodies = Shared(app), []
    # It takes a second, and nobody comes later than that.
    monkeypatch.setattr(sharing.time, "monotonic", lambda: float(app.may_go.is_set()))
    threads = [threading.Thread(target=lambda: bodies.append(asked(shared)["body"])) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert app.started.wait(20)
    app.may_go.set()
    for thread in threads:
        thread.join()
    assert (bodies, app.count) == ([b"1"] * 5, 1)


def test_an_answer_is_kept_in_proportion_to_its_cost(monkeypatch):
    from hpsearch.dashboard import shared_answers as sharing

    now = [0.0]
    monkeypatch.setattr(sharing.time, "monotonic", lambda: now[0])

    def slow(environ, start_response):
        now[0] += 0.5
        start_response("200 OK", [])
        return [str(now[0]).encode()]

    shared = Shared(slow)
    assert asked(shared)["body"] == b"0.5"
    now[0] += 1.9
    assert asked(shared)["body"] == b"0.5"  # 4 x 0.5 s
    assert asked(shared, query="after=1")["body"] != b"0.5"
    now[0] += 2
    assert asked(shared)["body"] != b"0.5"


def test_a_write_is_seen_at_once_and_errors_are_not_kept():
    app = Counting()
    app.may_go.set()
    shared = Shared(app)
    assert asked(shared)["body"] == b"1"
    asked(shared, method="POST")
    assert asked(shared)["body"] == b"3"

    def failing(environ, start_response):
        app.count += 1
        start_response("500 Oh", [])
        return []

    shared, app.count = Shared(failing), 0
    asked(shared), asked(shared)
    assert app.count == 2


def test_the_server_of_a_large_study_computes_it_once(db, tmp_path, monkeypatch):
    """As the page refreshes: one long answer, then short ones from where it left off."""
    plant(db, "coarse", num_trials=100)
    with serving(dashboard_app(db, Rules(), tmp_path)) as client:
        whole = client("GET", "/api/studies/1?after=0", Accept_Encoding="gzip")
        rest = client("GET", "/api/studies/1?after=100", Accept_Encoding="gzip")
    assert whole.headers["Content-Encoding"] == "gzip"
    assert len(json.loads(gzip.decompress(whole.body))["trials"]) == 100
    assert json.loads(gzip.decompress(rest.body))["trials"] == []


# the command


class Command:
    def __init__(self, folder, *arguments, **environment):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HPSEARCH_")}
        kept |= {"OMP_NUM_THREADS": "1", **environment}
        self.process = warm_commands().start(["dashboard", *arguments], folder, kept)
        self.has_ended = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if not self.has_ended:
            self.ended(signal.SIGKILL)

    def announced(self):
        return json.loads(self.process.first_line(600))

    def ended(self, signal_):
        """(exit code, what it printed after what it announced, its errors)."""
        os.kill(self.process.pid, signal_)
        done = self.process.wait(600)
        self.has_ended = True
        return done.returncode, done.stdout.partition("\n")[2], done.stderr


@pytest.fixture
def folder(tmp_path):
    db = open_database(f"sqlite:///{tmp_path}/studies/hpsearch.db", create=True)
    plant(db, "coarse", num_trials=15)
    db.close()
    return tmp_path


def status_of(url, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=600) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@pytest.mark.slow
@pytest.mark.parametrize(("signal_", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_serves_this_machine_and_ends_cleanly(folder, signal_, code):
    with Command(folder, "--port", "0", "--json") as command:
        said = command.announced()
        assert said["url"].startswith("http://127.0.0.1:")
        assert said["token"] is None
        assert status_of(f"{said['url']}api/studies") == 200
        assert status_of(f"{said['url']}api/studies", Host="evil.example") == 403
        assert command.ended(signal_) == (code, "", "")


def test_other_machines_need_a_token_that_is_made_and_shown_once(folder):
    with Command(folder, "--port", "0", "--host", "0.0.0.0", "--json") as command:
        said = command.announced()
        url = f"http://127.0.0.1:{urlsplit(said['url']).port}/"
        assert len(said["token"]) >= 32
        assert status_of(f"{url}api/studies") == 401
        assert status_of(f"{url}api/studies", Authorization=f"Bearer {said['token']}") == 200
        assert status_of(f"{url}api/studies", Host="10.1.2.3", Authorization=f"Bearer {said['token']}") == 200
        assert status_of(f"{url}api/studies", Host="evil.example", Authorization=f"Bearer {said['token']}") == 403
        code, _, err = command.ended(signal.SIGTERM)
        assert code == 143
        assert "not encrypted" not in err  # asked for JSON


@pytest.mark.slow
def test_a_token_comes_from_a_file_or_the_environment_and_is_never_shown(folder):
    (folder / "token").write_text("a-token-from-a-file\n")
    for options, environment, token in (
        (["--token-file", "token"], {}, "a-token-from-a-file"),
        ([], {"HPSEARCH_DASHBOARD_TOKEN": "a-token-from-outside"}, "a-token-from-outside"),
    ):
        with Command(folder, "--port", "0", "--json", "-vv", *options, **environment) as command:
            said = command.announced()
            assert status_of(f"{said['url']}api/studies") == 401
            assert status_of(f"{said['url']}api/studies?token={token}", Authorization=f"Bearer {token}") in (200, 303)
            code, out, err = command.ended(signal.SIGINT)
        assert code == 130
        assert token not in json.dumps(said) + out + err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--storage", "sqlite:///nowhere.db"], 1, "no studies yet"),
        (["--token-file", "missing"], 2, "cannot be read"),
        (["--token-file", "short"], 2, "at least 16"),
        (["--host", "no-such-host.invalid"], 2, "not known"),
        (["--port", "TAKEN"], 2, "cannot be opened"),
    ],
    ids=lambda value: str(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_said(folder, arguments, code, message):
    (folder / "short").write_text("short")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        words = [port if word == "TAKEN" else word for word in arguments]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HPSEARCH_")}
        done = warm_commands().run(["dashboard", *words], folder, environment, timeout=600)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "nowhere.db").exists()


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_the_page_in_a_browser(db, tmp_path):
    from playwright.sync_api import expect

    plant(db, "coarse", num_trials=20)
    plant(db, HOSTILE, num_trials=10, source="coarse", reasons={"lr": HOSTILE})
    for name in ("coarse", HOSTILE):
        assert panels.refresh_panels(db, name)
    token, said = "a-token-of-enough-length", []
    with (
        serving(dashboard_app(db, Rules(token=token), tmp_path)) as client,
        chromium() as browser,
    ):
        page = open_context(browser, viewport={"width": 1440, "height": 900}).new_page()
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append("an alert"))
        page.goto(f"http://{client.host}/")
        page.get_by_label("Token").fill(token)
        page.get_by_role("button").click()
        expect(page.get_by_text(HOSTILE)).to_be_visible()
        assert [text for text in said if "401" not in text] == []  # the login page is a 401, and Chromium says so
        said.clear()
        study = find_study(db, HOSTILE)
        page.goto(f"http://{client.host}/dashboard/studies/{study.study_id}")
        for id_ in ("ranges-0", "ranges-1", "landscape-0", "gap-0", "updates-0"):
            figure = page.locator(f'[id="user-defined-plot:hpsearch-{id_}"]')
            expect(figure.locator(".gtitle")).not_to_be_empty()
            expect(figure.locator(".scatterlayer .trace").first).to_be_attached()
        page.goto(f"http://{client.host}/dashboard/studies/{study.study_id}/note")
        expect(page.get_by_role("heading", name=HOSTILE)).to_be_visible()
        assert page.locator("img[src='x']").count() == 0
        assert page.locator("a[href^='javascript']").count() == 0
        assert said == []
        browser.close()
