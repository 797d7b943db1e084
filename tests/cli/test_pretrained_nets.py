"""A net with weights of its own, by the command: from a folder of images to predictions, with relative paths."""

import csv

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors import safe_open

NET = "torchvision:shufflenet_v2_x0_5"


@pytest.fixture(scope="module")
def searched(tmp_path_factory, command_line):
    """A folder with images and weights in which heads were searched; tests only read it."""
    folder = tmp_path_factory.mktemp("pretrained")
    rng = np.random.default_rng(0)
    for label, level in (("dark", 60), ("light", 190)):
        (folder / "photos" / label).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(level - 50, level + 50, (32, 32, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / label / f"{number}.png")
    torch.manual_seed(0)
    torch.save(torchvision.models.shufflenet_v2_x0_5().state_dict(), folder / "net.pt")
    line = command_line(folder)
    flags = ("--data", "folder:photos", "--model", NET, "--set", "model.weights=net.pt", "--set", "data.size=32")
    flags += ("--set", "model.freeze=all", "--skip-checks")
    line.coarse = line("coarse", *flags, "--trials", "4", "--epochs", "2", "--set", "train.metric=auroc")
    line.fine = line("fine", "--from", "coarse", "--trials", "3", "--epochs", "2")
    return line


@pytest.mark.slow
def test_heads_are_searched_on_features_and_kept_with_all_measures(searched):
    assert "normalized with mean 0.485, 0.456, 0.406" in searched.coarse.stderr + searched.coarse.stdout
    assert len(list((searched.folder / "data" / "cache").glob("features-*.npy"))) == 1
    for study in ("coarse", "fine"):
        best = searched.json("best", study)
        assert best["metric"] == "auroc"
        assert best["measures"]["auroc"] == pytest.approx(best["value"], abs=1e-6)  # of the kept weights
        assert {"accuracy", "loss", "macro_f1"} <= best["measures"].keys()
    assert not any(row["failed"] for row in searched.json("status"))


@pytest.mark.slow
def test_the_whole_net_is_kept_and_used(searched):
    images = sorted(path.relative_to(searched.folder) for path in searched.folder.glob("photos/*/1*.png"))
    rows = list(csv.DictReader(searched("predict", "fine", *images).stdout.splitlines()))
    assert [row["file"] for row in rows] == list(map(str, images))
    assert {row["class"] for row in rows} <= {"dark", "light"}
    written = searched.json("best", "fine", "--weights", "net")["files"]
    assert [path.rpartition("/")[2] for path in written] == ["weights.safetensors", "model.toml", "predict.py"]
    report = searched("report", "fine").stdout
    assert "report.html" in report
    assert "dark" in (searched.folder / "report.html").read_text()
    tested = searched.json("test", "fine")
    assert 0 <= tested["measures"]["auroc"] <= 1


@pytest.mark.slow
def test_which_stage_a_head_reads_is_searched(searched):
    flags = ("--data", "folder:photos", "--model", NET, "--set", "model.weights=net.pt", "--set", "data.size=32")
    space = ("--space", "features=choice(last,2,1)", "--space", "reg=none", "--space", "lr=choice(0.1)")
    command = ("coarse", *flags, *space, "--set", "model.freeze=all", "--set", "coarse.sampler=grid", "--name", "early")
    searched(*command, "--epochs", "2", "--trials", "3", "--set", "run.keep=all", "--skip-checks")
    trials = searched.json("export", "early")["trials"]
    assert {trial["params"]["model.features"] for trial in trials} == {"last", 1, 2}
    assert len(list((searched.folder / "data" / "cache").glob("features-*.npy"))) >= 3
    for trial in trials:
        assert trial["state"] == "COMPLETE"
        rows = searched("predict", "early", "photos/dark/1.png", "--trial", str(trial["number"])).stdout.splitlines()
        assert len(rows) == 2
    heads = set()
    for path in (searched.folder / "studies" / "artifacts").iterdir():
        with safe_open(path, "pt") as file:
            names = [name for name in file.keys() if name in ("weights/fc.weight", "weights/head.weight")]  # noqa: SIM118
            heads.add((names[0], *file.get_slice(names[0]).get_shape()))
    assert heads == {("weights/fc.weight", 2, 1024), ("weights/head.weight", 2, 48), ("weights/head.weight", 2, 24)}


@pytest.mark.slow
def test_what_a_net_starts_from_is_searched_too(searched):
    flags = ("--data", "folder:photos", "--model", NET, "--set", "data.size=32", "--skip-checks", "--name", "begin")
    space = ("--space", "weights=choice(none,net.pt)", "--space", "freeze=choice(none,all)", "--space", "reg=none")
    command = ("coarse", *flags, *space, "--set", "coarse.sampler=grid", "--epochs", "1")
    said = searched(*command, "--space", "lr=choice(0.01)", "--trials", "4", "--set", "run.keep=all")
    assert "normalized with mean 0.485, 0.456, 0.406" in said.stderr + said.stdout  # as the weights ask for
    trials = searched.json("export", "begin")["trials"]
    found = {(trial["params"]["model.weights"], trial["params"]["model.freeze"]): trial["value"] for trial in trials}
    assert set(found) == {(start, kept) for start in ("none", "net.pt") for kept in ("none", "all")}
    number = next(t["number"] for t in trials if t["params"]["model.weights"] == "none")
    rows = searched("predict", "begin", "photos/dark/1.png", "--trial", str(number)).stdout.splitlines()
    assert len(rows) == 2
    fine = ("fine", "--from", "begin", "--name", "begin-fine", "--trials", "2", "--epochs", "1")
    assert "model.weights" in searched(*fine).stdout
    state = torchvision.models.shufflenet_v2_x0_5(num_classes=7).state_dict()
    (searched.folder / "net.pt").rename(searched.folder / "kept.pt")
    torch.save(state, searched.folder / "net.pt")
    other = searched(*command, "--space", "lr=choice(0.01)", "--trials", "4", code=3).stderr
    assert "space.model.weights.choice" in other
    (searched.folder / "kept.pt").replace(searched.folder / "net.pt")


def test_weights_that_are_not_there_or_of_another_net_are_refused_before_the_search(searched):
    flags = ("--data", "folder:photos", "--model", NET, "--set", "data.size=32", "--trials", "2", "--name", "other")
    gone = searched("coarse", *flags, "--set", "model.weights=gone.pt", code=2).stderr
    assert "model.weights = 'gone.pt' is not a file" in gone
    torch.save(torchvision.models.resnet18().state_dict(), searched.folder / "resnet.pt")
    wrong = searched("coarse", *flags, "--set", "model.weights=resnet.pt", code=2).stderr
    assert "conv1.0.weight is missing" in wrong
    assert "other" not in {row["study"] for row in searched.json("status")}


def test_a_net_that_no_library_has_is_refused_before_images_are_read(hpsearch):
    (hpsearch.folder / "photos").mkdir()
    said = hpsearch("coarse", "--data", "folder:photos", "--model", "torchvision:resnet81", code=2).stderr
    assert "model.name = 'torchvision:resnet81' is not a net of torchvision" in said  # of the empty folder, nothing
    said = hpsearch("coarse", "--data", "csv:photos", code=1).stderr
    assert "photos cannot be read: Is a directory.\nSay folder:photos for a folder of images." in said
