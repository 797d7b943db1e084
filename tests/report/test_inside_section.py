"""What the page says of the inside of the best trial's net, where what is wrong with it is known."""

import base64
import html
import io
import json
import re

import numpy as np
import pytest
from chromium import CHROMIUM, chromium, open_context
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

from hpsearch.cli.app import app
from hpsearch.config import load_settings
from hpsearch.report.figures.layers import feature_maps, picture_of_numbers, share_small
from hpsearch.report.search_report import make_report
from hpsearch.search.stage_run import run_stage
from hpsearch.stages.planning import plan_coarse
from hpsearch.storage import find_study, open_database
from hpsearch.worker.best_weights import load_portrait

FIGURES = ("outputs", "gradients", "units", "filter-pairs", "maps", "maps-2", "responses", "weights")


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A LeNet on digits; 60 of its last 84 hidden units are killed afterwards, and 2 of 6 filters agree."""
    home = tmp_path_factory.mktemp("inside")
    flags = {"model.name": "lenet", "coarse.trials": 1, "coarse.epochs": 1, "data.limit": 400, "run.device": "cpu"}
    flags |= {"run.artifact_dir": str(home / "kept"), "run.data_dir": str(home / "data"), "run.threads": 1}
    settings = load_settings(flags=flags, spaces=["lr=log(1e-3,1e-2)", "reg=none"])
    db = open_database(f"sqlite:///{home}/studies.db", create=True)
    run_stage(db, plan_coarse(settings), settings.run, checks=False)
    path = load_portrait(find_study(db, "coarse")).path
    with safe_open(path, "pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    tensors["weights/fc2.bias"][:60] = -1e3
    tensors["weights/conv1.weight"][1] = 2 * tensors["weights/conv1.weight"][0]
    tensors["portrait/sparsity/fc_act2"][:60] = 1.0
    save_file(tensors, path, metadata)
    return home, db, settings.run


@pytest.fixture(scope="module")
def report(searched):
    _, db, run = searched
    return make_report(db, run=run)


def section_of(page):
    return re.search(r'<section id="s-inside">.*?</section>', page, re.DOTALL)[0]


def rows_of(text):
    rows = re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)
    return [[html.unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)] for row in rows]


def test_the_dead_are_found_and_come_first(report):
    shown = section_of(report.html)
    assert "Trial 0 of coarse, with the weights that are kept, on 80 validation images." in shown
    rows = [row for row in rows_of(shown) if row]
    dead = rows[0]
    assert dead[:2] == ["dead units", "look"]
    assert re.fullmatch(r"\d+ of 226 \((\d+) of 84 in fc_act2\), at 0 for every image", dead[2])
    assert "lower train.lr" in dead[3]
    by_name = {row[0]: row for row in rows}
    layers = [by_name[name] for name in ("act1", "act2", "fc_act1", "fc_act2")]
    assert [row[1] for row in layers] == ["6", "16", "120", "84"]
    assert int(layers[3][6]) >= 60
    assert by_name["first filters"][2] == "6.7% of the pairs with a correlation of 0.9 or more"  # one of 15
    assert by_name["gradients at the start"][1] == "ok"


def test_each_layer_has_the_length_of_its_steps(searched, report):
    _home, db, _ = searched
    cards = section_of(report.html).partition("The steps of each layer")[2].partition("</table>")[0]
    rows = {row[0]: row[1:] for row in rows_of(cards) if row}
    assert list(rows) == ["conv1", "conv2", "fc1", "fc2", "fc3"]
    flags = ["--storage", db.url, "--json"]
    shown = json.loads(CliRunner().invoke(app, ["trial", "coarse", "0", *flags]).stdout)
    assert [layer["layer"] for layer in shown["layer_updates"]] == list(rows)
    ratios = [layer["last"] for layer in shown["layer_updates"]]
    assert min(ratios) < shown["epochs"][-1]["update_ratio"] < max(ratios)
    for layer in shown["layer_updates"]:
        assert rows[layer["layer"]] == [f"{layer['last']:.1e}", f"{layer['at_middle_rate']:.1e}", layer["verdict"]]
    found = next(row for row in rows_of(section_of(report.html)) if row and row[0] == "steps of each layer")
    assert found[1] == ("ok" if {layer["verdict"] for layer in shown["layer_updates"]} == {"ok"} else "look")
    plain = CliRunner().invoke(app, ["trial", "coarse", "0", *flags[:2]])
    assert re.search(r"updates +conv1 \d\.\de-\d\d \w+.* · fc3 \d", plain.stdout)


def test_each_look_has_its_figure(report):
    shown = section_of(report.html)
    assert [name for name in report.figures if f'id="{name}"' in shown] == [f"coarse-{name}" for name in FIGURES]
    correlations = np.array(report.figures["coarse-filter-pairs"].data[0].z, dtype=float)
    assert correlations.shape == (6, 6)
    assert (correlations[0, 1], correlations[2, 2]) == (1, 1)
    start, end = report.figures["coarse-gradients"].data
    assert len(start.x) == len(end.x) == 5
    assert len(report.figures["coarse-outputs"].data) == 4
    pictures = [report.figures[f"coarse-{name}"].data[0].source for name in ("maps", "responses", "weights")]
    sizes = [Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).size for uri in pictures]
    assert all(max(size) >= 320 for size in sizes)
    drawn = sum(len(report.figures[f"coarse-{name}"].to_json()) for name in FIGURES)
    assert drawn < 150_000  # bytes that the page has for it


def test_it_is_the_same_each_time(searched, report):
    _, db, run = searched
    assert section_of(make_report(db, run=run).html) == section_of(report.html)


def test_trial_says_that_units_are_dead(searched):
    home, *_ = searched
    flags = ["--storage", f"sqlite:///{home}/studies.db"]
    done = CliRunner().invoke(app, ["trial", "coarse", "0", "--no-table", *flags])
    assert done.exit_code == 0, done.output
    assert re.search(r"dead units: \d+ of 226 \(\d+ of 84 in fc_act2\), at 0 for every image", done.output)
    assert "lower train.lr" in done.output


def test_without_weights_it_is_said(searched, tmp_path):
    _, db, run = searched
    kept = load_portrait(find_study(db, "coarse")).path
    kept.rename(tmp_path / "away")
    try:
        shown = section_of(make_report(db, run=run).html)
        assert re.search(r'class="lead">Not shown: the weights of trial 0 of &#39;coarse&#39; are not here', shown)
        assert "<table" not in shown
        done = CliRunner().invoke(app, ["trial", "coarse", "0", "--storage", db.url])
        assert done.exit_code == 0
        assert "dead units" not in done.output
    finally:
        (tmp_path / "away").rename(kept)


def test_a_large_matrix_is_shown_by_the_means_of_its_blocks():
    matrix = np.zeros((1000, 700))
    matrix[500:, 350:] = -1
    picture = picture_of_numbers(matrix)
    assert picture.shape[2] == 4
    height, width = picture.shape[:2]
    assert max(height, width) <= 2 * 320
    assert (picture[: height // 2 - 3, :, 0] == 0).all()
    assert (picture[height // 2 + 3 :, width // 2 + 3 :, 0] == 255).all()
    assert picture_of_numbers(np.zeros((2, 3)))[..., 0].max() == 0
    assert share_small(matrix) == 0.75


def test_feature_maps_begin_with_the_image():
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, :, 0] = 200
    maps = np.arange(2 * 4 * 4, dtype=np.float32).reshape(2, 4, 4)
    mosaic = feature_maps(maps, image)
    assert mosaic[0, 0].tolist() == [200, 0, 0, 255]
    grey = mosaic[..., 0][(mosaic[..., 1] > 0) & (mosaic[..., 3] > 0)]
    assert grey.max() == 255


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_it_fits_a_telephone(searched, report):
    pytest.importorskip("playwright.sync_api")
    path = searched[0] / "report.html"
    path.write_text(report.html)
    with chromium() as browser:
        page = open_context(browser, viewport={"width": 390, "height": 900}).new_page()
        problems = []
        page.on("console", lambda message: problems.append(message.text))
        page.goto(path.as_uri())
        for name in FIGURES:
            plot = page.locator(f'[data-figure="coarse-{name}"]')
            plot.scroll_into_view_if_needed()
            plot.locator(".main-svg, img").first.wait_for()  # pictures are drawn without Plotly
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert problems == []
