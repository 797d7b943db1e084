"""What the page says of the best trial's mistakes, against images of which it is known what is wrong with them."""

import base64
import csv
import io
import os
import re
import shutil

import numpy as np
import pytest
from chromium import CHROMIUM, chromium, open_context
from PIL import Image
from safetensors.torch import load_file, save_file

from hpsearch.config import load_settings
from hpsearch.report.figures.confusion import MOST_CLASSES, _confusion_info, plot_confusion
from hpsearch.report.mistakes import CUT, Picture
from hpsearch.report.search_report import make_report
from hpsearch.search.mistakes import WrongImage, mistakes_csv
from hpsearch.search.stage_run import run_stage
from hpsearch.stages.planning import plan_coarse
from hpsearch.storage import find_study, open_database
from hpsearch.worker.best_weights import load_portrait

HOSTILE = "night<img src=x>"
DARK = f"{'dark' * 30}.png"  # a long name, without a place to break it


def photograph(path, base, rng):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((base + rng.integers(0, 100, (12, 12, 3))).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A net that tells bright from dark without fail, and two validation images that lie in the wrong folder."""
    home, rng = tmp_path_factory.mktemp("mistakes"), np.random.default_rng(0)
    for split, num in (("train", 20), ("val", 6)):
        for name, base in (("day", 140), (HOSTILE, 10)):
            for i in range(num):
                photograph(home / "photos" / split / name / f"{i}.png", base, rng)
    photograph(home / "photos" / "val" / "day" / DARK, 0, rng)
    photograph(home / "photos" / "val" / HOSTILE / "bright.png", 60, rng)  # hardly to be told
    flags = {"data.source": f"folder:{home}/photos", "model.name": "linear", "coarse.trials": 2, "coarse.epochs": 8}
    flags |= {"data.augment": ["hflip", "crop:2"], "train.batch_size": 10, "run.data_dir": str(home / "data")}
    flags |= {"run.artifact_dir": str(home / "kept"), "run.device": "cpu", "run.threads": 1}
    settings = load_settings(flags=flags, spaces=["lr=log(1e-3,1e-2)", "reg=none"])
    db = open_database(f"sqlite:///{home}/studies.db", create=True)
    run_stage(db, plan_coarse(settings), settings.run, checks=False)
    return home, db, settings.run


@pytest.fixture(scope="module")
def report(searched):
    _, db, run = searched
    return make_report(db, run=run)


def section_of(page):
    return re.search(r'<section id="s-mistakes">.*?</section>', page, re.DOTALL)[0]


def pictures_of(text):
    uris = re.findall(r'<img src="data:image/(?:png|jpeg);base64,([^"]+)"', text)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(uri)))) for uri in uris]


def test_the_image_in_the_wrong_folder_comes_first(searched, report):
    home, *_ = searched
    shown = section_of(report.html)
    worst, after = shown.split("After augmentation")
    dark = np.asarray(Image.open(home / "photos" / "val" / "day" / DARK))
    assert (pictures_of(worst)[0] == dark).all()
    captions = re.findall(r'<figcaption><span>(.*?)</span><span>(.*?)</span><small title="(.*?)">(.*?)</small>', worst)
    assert captions[0][0] == "day"
    assert captions[0][2:] == (f"val/day/{DARK}", f"{CUT}{DARK[-40:]}")
    assert re.fullmatch(r"→ night&lt;img src=x&gt; \d+%", captions[0][1])
    assert "<img src=x" not in shown
    confusion = report.figures["coarse-confusion"].data[0]
    [day, night] = [[re.match(r"\d+ of 7", text)[0] for text in row] for row in confusion.text]
    assert day == ["6 of 7", "1 of 7"]
    wrong = int(night[0][0])
    assert len(captions) == 1 + wrong
    assert f"on all 14 validation images: {13 - wrong} right" in shown
    assert len(pictures_of(after)) == 16


def test_mistakes_are_listed_by_file(report):
    listed = re.search(
        r'href="data:text/csv;charset=utf-8;base64,([^"]+)" download="coarse-mistakes.csv">([^<]+)', report.html
    )
    header, *rows = csv.reader(io.StringIO(base64.b64decode(listed[1]).decode(), newline=""))
    assert header == ["image", "true", "predicted", "probability", "true_probability"]
    assert rows[0][:3] == [f"val/day/{DARK}", "day", HOSTILE]
    assert float(rows[0][3]) + float(rows[0][4]) == pytest.approx(1, abs=1e-5)
    assert [float(row[4]) for row in rows] == sorted(float(row[4]) for row in rows)
    assert listed[2] == f"All {len(rows)} as CSV"
    assert all(row[0].startswith("val/") for row in rows)


def test_of_a_long_name_the_end_is_shown():
    name = f"day/{'x' * 300}-7.png"
    shown = Picture("", "", name=name).short_name
    assert shown == f"{CUT}{name[-40:]}"
    assert Picture("", "", name="day/7.png").short_name == "day/7.png"


def test_a_list_of_mistakes_is_safe_to_open():
    """Names of files are their own bytes; nothing of it is a formula."""
    name = os.fsdecode(b"=1+1,\xff.png")
    rows = mistakes_csv([WrongImage(name, "=day", "night", 0.75, 0.25), WrongImage(7, "a", "b", 1.0, 0.0)])
    assert rows.splitlines()[1:] == [b'"./=1+1,\xff.png",\'=day,night,0.75,0.25', b"7,a,b,1,0"]


def test_augmentation_is_shown_as_it_is(searched, report):
    home, *_ = searched
    pictures = pictures_of(section_of(report.html).split("After augmentation")[1])
    originals = {Image.open(p).tobytes() for p in (home / "photos" / "train").rglob("*.png")}
    shifts = [(down, right) for down in range(5) for right in range(5)]
    for before, after in zip(pictures[::2], pictures[1::2], strict=True):
        assert before.tobytes() in originals
        possible = []
        for each in (before, before[:, ::-1]):
            padded = np.zeros((16, 16, 3), np.int64) - 1  # zeros after normalization: any colour
            padded[2:14, 2:14] = each
            possible += [padded[down : down + 12, right : right + 12] for down, right in shifts]
        assert any(((one == after) | (one == -1)).all() for one in possible)


@pytest.mark.slow
def test_why_nothing_is_shown_is_said_in_a_line(searched, tmp_path):
    home, _, run = searched
    copied = tmp_path / "copy"
    shutil.copytree(home, copied)
    db = open_database(f"sqlite:///{copied}/studies.db")
    kept = load_portrait(find_study(db, "coarse")).path
    (home / "photos").rename(home / "elsewhere")
    try:
        shown = section_of(make_report(db, run=run).html)
        assert re.search(r'class="lead">Not shown: \S+photos is not a folder', shown)
        assert "gallery" not in shown
        tensors = load_file(kept)
        kept.rename(f"{kept}.away")
        assert "are not here" in section_of(make_report(db, run=run).html)
        save_file({n: t for n, t in tensors.items() if not n.startswith("images/")}, kept)
        assert "an older version of hpsearch" in section_of(make_report(db, run=run).html)
    finally:
        (home / "elsewhere").rename(home / "photos")
        shutil.move(f"{kept}.away", kept)
    other = Image.open(home / "photos" / "val" / "day" / "0.png").rotate(90)
    shutil.copy(home / "photos" / "val" / "day" / "0.png", tmp_path / "0.png")
    other.save(home / "photos" / "val" / "day" / "0.png")
    try:
        assert "does not hold the images that" in section_of(make_report(db, run=run).html)
    finally:
        shutil.copy(tmp_path / "0.png", home / "photos" / "val" / "day" / "0.png")


def test_of_many_classes_those_with_the_most_mistakes_are_shown():
    confusion = np.diag(np.arange(1, 41))
    confusion[35, 3] = 7
    confusion[10, 38] = 2
    info = _confusion_info(confusion, [f"c{i}" for i in range(40)])
    assert len(info.names) == MOST_CLASSES
    assert {"c35", "c3", "c10", "c38"} <= set(info.names)
    row, column = info.names.index("c35"), info.names.index("c3")
    assert (info.counts[row, column], info.totals[row]) == (7, 43)
    field = plot_confusion(info).data[0]
    assert field.z[row][column] == pytest.approx(7 / 43)
    assert field.z[row][row] is None
    assert field.text[row][column] == "7 of 43 images of c35 taken for c3"


def test_a_net_without_mistakes_has_no_colour():
    field = plot_confusion(_confusion_info(np.diag([3, 4]), ["a", "b"])).data[0]
    assert [list(row) for row in field.z] == [[None, None], [None, None]]


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_pictures_are_seen_offline_and_fit_a_telephone(searched, report):
    pytest.importorskip("playwright.sync_api")
    page_path = searched[0] / "report.html"
    page_path.write_text(report.html)
    with chromium() as browser:
        page = open_context(browser, viewport={"width": 390, "height": 900}).new_page()
        problems = []
        page.on("console", lambda message: problems.append(message.text))
        page.goto(page_path.as_uri())
        page.locator("#s-mistakes").scroll_into_view_if_needed()
        page.locator("#s-mistakes .heatmaplayer image").first.wait_for()
        images = page.locator("#s-mistakes .picture img")
        assert images.evaluate_all("all => all.every((image) => image.complete && image.naturalWidth === 12)")
        assert images.count() == report.html.count('<figure class="picture">')
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.set_viewport_size({"width": 1280, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280
        assert problems == []
