"""data.augment by the commands: searched, looked at, reported, tested with views, with relative paths."""

import re

import numpy as np
import pytest
from PIL import Image
from test_image_folders import photographs

SEARCH = (
    "--data folder:photos --model linear --epochs 2 --keep best --skip-checks --set data.size=8 --set train.lr=1e-3"
)
KINDS = 'data.augment=["hflip", "cutout:2", "mixup:0.2"]'


@pytest.mark.slow
def test_a_strength_is_searched_and_its_best_net_tested_with_views(hpsearch):
    photographs(hpsearch.folder / "photos", num=12)
    spaces = ("--space", "lr=none", "--space", "reg=none", "--space", "rotate=uniform(0,30)")
    spaces += ("--space", "data.augment.crop=int(0,1)")
    hpsearch("coarse", *SEARCH.split(), *spaces, "--trials", 3, "--set", KINDS)
    best = hpsearch.json("best", "coarse")
    params = best["params"]
    assert params.keys() == {"data.augment.rotate", "data.augment.crop"}
    assert 0 <= params["data.augment.rotate"] <= 30
    assert "exact" in hpsearch("rerun", "coarse", best["number"], "--seeds", 1).stdout

    toml = hpsearch("best", "coarse", "-f", "toml").stdout
    rotate, crop = params["data.augment.rotate"], params["data.augment.crop"]
    assert f'augment = ["hflip", "cutout:2", "mixup:0.2", "crop:{crop}", "rotate:{rotate}"]' in toml
    (hpsearch.folder / "best.toml").write_text(toml)
    again = hpsearch("train", "-c", "best.toml")
    assert "val_acc" in again.stdout

    tested = hpsearch.json("test", "coarse", "--views", "flip")
    assert tested["views"] == "flip"
    assert 0 <= tested["view_mean"] <= 1
    shown = hpsearch("test", "coarse", "--views", "ten-crop").stdout
    low, high = tested["view_interval"]
    assert low <= tested["view_mean"] <= high
    views = r"^views    ten-crop: test_acc \d\.\d{4}  95% \[\d\.\d{4}, \d\.\d{4}\], from"
    assert re.search(views, shown, re.MULTILINE)
    assert shown.index("test_acc") < shown.index("views ")
    assert "views" not in hpsearch.json("test", "coarse")
    refused = hpsearch("test", "coarse", "--views", "five", code=2)
    assert "--views five is not allowed.\nAllowed: flip, ten-crop." in refused.stderr

    plain, views = (
        hpsearch.json("predict", "coarse", "photos", *more)["predictions"] for more in ([], ["--views", "ten-crop"])
    )
    assert len(plain) == len(views)
    assert plain != views

    page = hpsearch("report", "coarse", "-o", "report.html") and (hpsearch.folder / "report.html").read_text()
    assert "After augmentation" in page


def test_a_sheet_shows_images_before_and_after(hpsearch):
    photographs(hpsearch.folder / "photos", num=12)
    (hpsearch.folder / "study.toml").write_text(
        '[data]\nsource = "folder:photos"\nsize = 8\naugment = ["rotate:20", "mixup:0.4"]\n[train]\nbatch_size = 5\n'
    )
    shown = hpsearch("data", "show", "-c", "study.toml", "--augment", "out/sheet.png").stdout
    assert "sheet    out/sheet.png: rotate:20, mixup:0.4" in shown
    with Image.open(hpsearch.folder / "out" / "sheet.png") as sheet:
        assert sheet.size == (5 * (64 + 4) + 4, 7 * (64 + 4) + 4)  # pixels of 8; three pairs of rows, mean and std
        pixels = np.asarray(sheet).astype(int)
    rows = [pixels[4 + 68 * row : 68 * (row + 1), 4:68] for row in range(7)]
    assert all((np.abs(rows[row] - rows[row + 1]) > 10).any() for row in (0, 2, 4))
    assert not (rows[0] == rows[2]).all()
    assert (rows[6] < 255).any()
    assert hpsearch.json("data", "show", "digits", "--augment", "plain.png")["augment"] == []
    refused = hpsearch("data", "show", "digits", "--augment", "sheet.doc", code=2)
    assert "--augment sheet.doc is no picture by its ending.\nAllowed: FILE.png, FILE.jpg." in refused.stderr


def test_check_says_what_does_not_fit_digits(hpsearch):
    noted = hpsearch("coarse", "--set", "data.augment=hflip", "--trials", 2, "--epochs", 1, "--dry-run")
    assert "note: data.augment has hflip, but a mirrored digit of digits is another one, or none" in noted.stderr
