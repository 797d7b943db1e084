import html
import json
import re
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from chromium import CHROMIUM, EACH_WINDOW, chromium, open_context
from planted import plant
from safetensors.numpy import save_file
from typer.testing import CliRunner

from hpsearch.analysis import attributes
from hpsearch.cli.app import app
from hpsearch.errors import ConfigError
from hpsearch.report.page import script_json
from hpsearch.report.search_report import make_report
from hpsearch.storage import open_database

HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>\u2028{{7*7}}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def db(folder):
    """Two stages with hostile names and attributes, and the portrait of the second one's best trial."""
    db = open_database(f"sqlite:///{folder}/studies.db", create=True)
    plant(db, HOSTILE[:-8], num_trials=60, reasons={"lr": HOSTILE}, class_names=[HOSTILE])
    draw = np.random.default_rng(0)
    portrait = folder / "portrait.safetensors"
    tensors = {
        "portrait/filters": draw.normal(size=(12, 3, 8, 8)).astype(np.float32),
        f"portrait/sparsity/{HOSTILE[:28]}": draw.uniform(size=20).astype(np.float32),
    }
    save_file(tensors, portrait)
    kept = {attributes.PORTRAIT: {"path": str(portrait), "number": 1, "value": 0.9}}
    finding = {"name": HOSTILE, "outcome": "note", "text": HOSTILE, "advice": HOSTILE, "measured": {}}
    kept |= {
        attributes.VERSIONS: {"hpsearch": HOSTILE},
        attributes.TESTS: [{"trial": 1, "mean": 0.9, "interval": [0.8, 1.0], "time": HOSTILE, "seeds": [0]}],
        attributes.CHECKS: {"ok": True, "findings": [finding]},
    }
    plant(db, "fine", source=HOSTILE[:-8], num_trials=60, epochs=6, lr=(1e-3, 2e-2), seed=1, **kept)
    return db


@pytest.fixture(scope="module")
def report(db, folder):
    report = make_report(db)
    (folder / "report.html").write_text(report.html, encoding="utf-8")
    return report


def without_scripts(page):
    return re.sub(r"<script[^>]*>.*?</script>|<style[^>]*>.*?</style>", "", page, flags=re.DOTALL)


@pytest.mark.slow
def test_what_people_named_stays_text(report):
    shown = without_scripts(report.html)
    assert "<img" not in shown
    assert "<script" not in shown
    assert html.escape(HOSTILE[:40]) in shown
    assert "alert(2)" in shown  # as text
    assert len(re.findall("<script", report.html)) == 4  # data, plotly.js, page.js, center.js


def test_data_cannot_end_their_script():
    text = script_json(json.dumps({"a": HOSTILE}, ensure_ascii=False))
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": HOSTILE}


def test_the_policy_lets_only_the_pages_own_scripts_run(report):
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]+)"', report.html)
    policy = html.unescape(policy)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy
    assert "unsafe-eval" not in policy
    assert not re.search(r"(src|href)=\"?(https?:)?//", without_scripts(report.html))


def test_each_figure_has_its_place(report):
    assert set(re.findall(r'data-figure="([^"]+)"', report.html)) == set(report.figures)
    kinds = {name.rsplit("-", 1)[-1] for name in report.figures if name.startswith("fine-")}
    wanted = "landscape importance parallel accuracy loss gap updates filters sparsity"
    assert kinds == set(wanted.split())
    assert all(re.fullmatch(r"[\w.-]+", name) for name in report.figures)


def test_the_stage_of_the_headline_is_open_and_each_names_its_own_best(db, report):
    page = report.html
    [headline] = re.findall(r'<p class="muted">(trial \d+ of [^<]+)</p>', page)
    opened = re.findall(r'aria-pressed="true">([^<]+)</button>', page)
    assert len(opened) == 1
    assert headline.endswith(f" of {opened[0]}")
    assert len(re.findall(r'<div id="s-stage-\d+" class="stage" hidden>', page)) == 1
    assert "<h3>The best of fine: accuracy</h3>" in page
    assert re.search(r"the best of fine(, after epoch \d+)?: 12 units", page)


def test_sections_without_content_are_left_out(db, report, tmp_path):
    for id_ in ("s-checks", "s-test"):
        assert f'id="{id_}"' in report.html
    plain = open_database(f"sqlite:///{tmp_path}/plain.db", create=True)
    plant(plain, num_trials=5)
    page = make_report(plain).html
    for id_ in ("s-checks", "s-test", "s-comparisons"):
        assert f'id="{id_}"' not in page
    assert "coarse-filters" not in page
    assert "it takes 12 to tell" in page


def test_a_lost_portrait_costs_only_its_figures(tmp_path):
    db = open_database(f"sqlite:///{tmp_path}/studies.db", create=True)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no tensors")
    plant(db, num_trials=5, **{attributes.PORTRAIT: {"path": str(broken), "number": 1, "value": 0.9}})
    assert "coarse-filters" not in make_report(db).figures


def test_an_empty_storage_says_how_to_start(tmp_path):
    db = open_database(f"sqlite:///{tmp_path}/studies.db", create=True)
    with pytest.raises(ConfigError, match="hpsearch coarse"):
        make_report(db)


@pytest.mark.parametrize("state", ["waiting", "exploded"])
def test_a_stage_without_a_best_trial_has_a_page(tmp_path, state):
    db = open_database(f"sqlite:///{tmp_path}/studies.db", create=True)
    plant(db, num_trials=4, lr=(0.5, 1.0), finish=state == "exploded")
    report = make_report(db)
    assert "No trial has finished yet" in report.html


@pytest.mark.slow
def test_a_thousand_trials_are_quick_and_small(tmp_path):
    seconds, pages = [], []
    for num_trials in (10, 1000):
        db = open_database(f"sqlite:///{tmp_path}/{num_trials}.db", create=True)
        plant(db, num_trials=num_trials, epochs=10)
        start = time.process_time()  # of this process: others on the machine do not count
        pages.append(make_report(db).html)
        seconds.append(time.process_time() - start)
    assert seconds[1] < 20 * seconds[0]  # 2 to 3 times
    assert len(pages[1].encode()) < 12e6


class TestCommand:
    def run(self, *arguments, code=0):
        done = CliRunner().invoke(app, ["report", *map(str, arguments)])
        assert done.exit_code == code, done.output
        return done

    def test_json_says_what_was_written(self, db, tmp_path):
        target = tmp_path / "out.html"
        target.write_text("older")
        done = self.run("fine", "--storage", db.url, "-o", target, "--json")
        written = json.loads(done.stdout)
        assert written["file"] == str(target)
        assert written["bytes"] == target.stat().st_size > 4_000_000
        assert "fine-landscape" in written["figures"]
        assert [path.name for path in tmp_path.iterdir()] == ["out.html"]

    def test_an_unwritable_target_is_a_usage_error(self, db, tmp_path):
        done = CliRunner().invoke(app, ["report", "fine", "--storage", db.url, "-o", str(tmp_path / "no" / "x.html")])
        assert isinstance(done.exception, ConfigError)
        assert "x.html" in str(done.exception)

    def test_pictures_need_a_renderer(self, db, tmp_path, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        done = CliRunner().invoke(app, ["report", "--storage", db.url, "--png", str(tmp_path / "png")])
        assert isinstance(done.exception, ConfigError)
        assert "pip install kaleido" in str(done.exception)


@pytest.fixture(scope="module")
def browser():
    pytest.importorskip("playwright.sync_api")
    with chromium() as browser:
        yield browser


@contextmanager
def pages(browser, folder):
    """What opens them; none of them may have a word to say in the end, or have asked anybody for anything."""
    contexts, problems = [], []

    def open_page(width=1440, scheme="light", path: Path = folder / "report.html"):
        context = open_context(browser, viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: problems.append(request.url) if "http" in request.url[:4] else None)
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture(scope="module")
def shown(browser, report, folder):
    """A page that was opened and not scrolled; tests leave the stage that is open, and the scheme, as they are."""
    with pages(browser, folder) as open_page:
        page = open_page()
        figures = page.locator("[data-figure]:visible").all()
        for figure in figures:
            figure.locator(".main-svg, img").first.wait_for()
        page.scrolled = page.evaluate("scrollY")
        page.lowest = max(figure.bounding_box()["y"] for figure in figures)
        yield page


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
class TestBrowser:
    @pytest.fixture
    def open_page(self, browser, report, folder):
        with pages(browser, folder) as open_page:
            yield open_page

    def draw_all(self, page):
        for button in page.locator("[data-shows]").all():
            button.click()
            for figure in page.locator("[data-figure]:visible").all():
                figure.evaluate("element => element.scrollIntoView({behavior: 'instant', block: 'center'})")
                figure.locator(".main-svg, img").first.wait_for()

    @pytest.mark.slow
    def test_all_that_is_shown_is_drawn_though_nobody_scrolls(self, shown):
        assert shown.scrolled == 0
        assert shown.lowest > 3 * 900
        assert shown.evaluate("document.documentElement.scrollWidth") <= 1440

    def test_hover_shows_text_and_never_markup(self, shown):
        page = shown
        cell = page.locator("[data-center]:visible .cell").first
        cell.evaluate("element => element.scrollIntoView({behavior: 'instant', block: 'center'})")
        cell.hover()
        assert "lr " in page.locator("#tip").inner_text()
        plot = page.locator('[data-figure="ranges-lr"]')
        plot.evaluate("element => element.scrollIntoView({behavior: 'instant', block: 'center'})")
        plot.locator(".main-svg").first.wait_for()
        plot.evaluate("element => Plotly.Fx.hover(element, [{curveNumber: 1, pointNumber: 10}])")
        plot.locator(".hovertext").first.wait_for()
        assert "<img src=x onerror=alert(1)>" in plot.locator(".hovertext").first.text_content()
        assert page.locator('main img:not([src^="data:image/png"])').count() == 0

    def test_sorting_reorders_the_command_center(self, shown):
        page = shown
        center = page.locator("[data-center]:visible")

        def names():
            return center.locator(".cell b").all_text_contents()

        center.locator(".more").click()
        by_value = names()
        center.locator("[data-sort]").select_option("number")
        assert names() == [f"#{number}" for number in range(60)]
        assert names() != by_value
        center.locator("[data-sort]").select_option("lr")
        assert sorted(names()) == sorted(by_value)
        assert names() not in (by_value, [f"#{number}" for number in range(60)])

    def test_figures_follow_the_theme(self, shown):
        page = shown
        plot = page.locator('[data-figure="ranges-lr"]')
        plot.locator(".main-svg").first.wait_for()
        colours = "e => [e.layout.paper_bgcolor, getComputedStyle(document.body).backgroundColor]"
        light = plot.evaluate(colours)
        plot.evaluate(
            "e => { window.redrawn = new Promise((done) => e.on('plotly_afterplot', () => done(true))); return null; }"
        )
        page.emulate_media(color_scheme="dark")
        page.evaluate("() => window.redrawn")
        dark = plot.evaluate(colours)
        page.emulate_media(color_scheme="light")
        assert light[0] == "#ffffff"
        assert all(one != other for one, other in zip(light, dark, strict=True))

    @pytest.mark.slow
    def test_a_printed_report_has_all_of_it(self, open_page, report, folder):
        """The filters are pictures, all stages are shown, and nothing is wider than a sheet."""
        page = open_page(scheme="dark")
        page.evaluate(
            """() => addEventListener("beforeprint", () => {
                 const seen = (e) => e.checkVisibility() && e.getBoundingClientRect();
                 const sheet = document.body.getBoundingClientRect();
                 const inside = (box) => box && box.right <= sheet.right + 1 && box.width > 0;
                 window.paper = {
                   drawn: [...document.querySelectorAll("[data-figure]")].filter((e) =>
                     inside(seen(e.querySelector(".main-svg, img") ?? e.parentElement))).map((e) => e.dataset.figure),
                   tables: [...document.querySelectorAll("table")].every((e) => inside(seen(e))),
                   cells: document.querySelectorAll(".cell").length,
                   paper: [...document.querySelectorAll(".js-plotly-plot")].map((e) => e.layout.paper_bgcolor),
                 };
               }) ?? null"""
        )
        printed = page.pdf(format="A4", print_background=False)
        paper = page.evaluate("window.paper")
        assert set(paper["drawn"]) == set(report.figures)
        assert paper["tables"]
        assert set(paper["paper"]) == {"#ffffff"}
        assert len(re.findall(rb"/Subtype\s*/Image", printed)) >= 1  # the filters
        assert len(re.findall(rb"/Type\s*/Page\b", printed)) <= 12
        page.wait_for_function("!document.documentElement.classList.contains('printing')")
        assert page.locator(".stage:visible").count() == 1
        plot = page.locator('[data-figure="ranges-lr"]')
        plot.evaluate("element => element.scrollIntoView({behavior: 'instant', block: 'center'})")
        plot.locator(".main-svg").first.wait_for()
        assert plot.evaluate("e => Math.abs(e._fullLayout.width - e.clientWidth)") < 2

    @pytest.mark.slow
    @EACH_WINDOW
    def test_each_figure_is_drawn_and_nothing_is_wider_than_the_window(self, open_page, report, width, scheme):
        page = open_page(width=width, scheme=scheme)
        self.draw_all(page)
        marks = ".scatterlayer path, .barlayer path, img"
        for name in report.figures:
            num = page.locator(f'[data-figure="{name}"]').evaluate(f"e => e.querySelectorAll('{marks}').length")
            assert num > 0, name
        assert page.locator(".cell").count() > 0
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
def test_another_search_in_the_same_storage_is_named_and_not_mixed_in(tmp_path):
    """Its best, its counts and its title are another one's."""
    db = open_database(f"sqlite:///{tmp_path}/studies.db", create=True)
    plant(db, "coarse", num_trials=12)
    plant(db, "fine", source="coarse", num_trials=6, seed=1)
    plant(db, "convnet-coarse", num_trials=8, seed=2)
    plant(db, "fine-b", source="coarse", num_trials=5, seed=3)
    lead = re.search(r'<p class="lead">(.*?)</p>', make_report(db).html)[1]
    assert "coarse → fine-b · beside it fine · 23 trials" in lead
    assert "not drawn, as they are other searches: convnet-coarse" in lead
    assert "convnet-coarse" in make_report(db, ["convnet-coarse"]).html
