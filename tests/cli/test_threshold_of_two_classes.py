"""Two classes, of which one is rare: the threshold that validation images give, wherever the net is used."""

import csv
import tomllib

import numpy as np
import pytest
from PIL import Image


def draw(folder, label, number, level, rng):
    folder = folder / "photos" / label
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.clip(rng.normal(level, 70, (6, 6, 3)), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(folder / f"{number}.png")


@pytest.fixture(scope="module")
def searched(tmp_path_factory, command_line):
    """A search in a folder of 90 common and 18 rare images."""
    folder = tmp_path_factory.mktemp("rare")
    rng = np.random.default_rng(1)
    for number in range(90):
        draw(folder, "common", number, 110, rng)
    for number in range(18):
        draw(folder, "rare", number, 135, rng)
    line = command_line(folder)
    flags = ("--data", "folder:photos", "--model", "linear", "--set", "data.val=0.5", "--skip-checks")
    flags += ("--set", "train.metric=balanced_accuracy", "--trials", "2", "--epochs", "2")
    line("coarse", *flags, "--space", "lr=log(1e-3,1e-2)", "--space", "reg=none")
    return line


@pytest.mark.slow
def test_the_threshold_of_the_kept_weights_is_used_and_said_everywhere(searched):
    images = sorted(str(path.relative_to(searched.folder)) for path in searched.folder.glob("photos/*/*.png"))
    said = searched.json("predict", "coarse", *images)
    threshold = said["threshold"]
    assert threshold["class"] == "rare"
    assert 0 < threshold["value"] != 0.5
    for row in said["predictions"]:
        is_rare = row["class"] == "rare"
        p_rare = row["probability"] if is_rare else 1 - row["probability"]
        assert is_rare == (p_rare > threshold["value"])
    assert any(row["probability"] < 0.5 for row in said["predictions"])  # the likelier class would be the other one
    shown = searched("predict", "coarse", *images)
    assert f"note: rare from probability {threshold['value']:.4g} on, found on validation images" in shown.stderr
    rows = list(csv.DictReader(shown.stdout.splitlines()))
    assert [row["class"] for row in rows] == [row["class"] for row in said["predictions"]]
    quiet = searched("predict", "coarse", images[0], "--top", "2", "-q")
    assert not quiet.stderr
    [both] = csv.DictReader(quiet.stdout.splitlines())
    assert {both["class"], both["class_2"]} == {"common", "rare"}

    searched("best", "coarse", "--weights", "net")
    about = tomllib.loads((searched.folder / "net" / "model.toml").read_text())
    assert about["classes"]["threshold"] == threshold["value"]
    plain = searched.script("net/predict.py", *images).stdout
    assert [row[1] for row in csv.reader(plain.splitlines())] == [row["class"] for row in rows]


@pytest.mark.slow
def test_the_test_set_is_measured_with_the_threshold_of_validation_images(searched):
    tested = searched.json("test", "coarse", "--seeds", "2")
    assert len(tested["thresholds"]) == len(tested["scores_at_threshold"]) == 2
    assert tested["score_at_threshold"] == pytest.approx(np.mean(tested["scores_at_threshold"]))
    assert tested["thresholds"][0] == searched.json("predict", "coarse", "photos/rare/0.png")["threshold"]["value"]
    joined = searched.json("test", "coarse", "--train-on-val")
    assert "thresholds" not in joined  # no images are left to find one on
    shown = searched("test", "coarse").stdout
    assert f"found on validation images: test_balanced_accuracy {tested['scores_at_threshold'][0]:.4f}" in shown
    assert f"({tested['scores'][0]:.4f} at 0.5)" in shown
    searched("report", "coarse")
    page = (searched.folder / "report.html").read_text()
    assert "predictions use a threshold: rare from probability" in page
    assert "with threshold" in page


def test_other_measures_and_more_classes_have_no_threshold(hpsearch):
    low = ("--space", "lr=log(1e-4,1e-3)", "--space", "reg=none")
    hpsearch("coarse", "-c", "tiny.toml", "--trials", "1", "--epochs", "1", "--skip-checks", *low)
    x = np.random.default_rng(0).normal(size=(2, 1, 4, 4)).astype(np.float32)
    np.savez(hpsearch.folder / "new.npz", x=x)
    assert "threshold" not in hpsearch.json("predict", "coarse", "new.npz")
    assert "thresholds" not in hpsearch.json("test", "coarse")
