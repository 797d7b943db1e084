"""From a folder of photographs to predictions for new ones, by the commands and with relative paths."""

import csv
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from test_image_folders import photographs

from hpsearch.search.weights_folder import FILES
from hpsearch.storage import find_study, open_database
from hpsearch.worker.best_weights import load_portrait

ODD = 'a, "b"\n\r=c.jpg'
SEARCH = "--data folder:photos --model mlp --trials 2 --epochs 6 --keep all --skip-checks --space lr=log(1e-3,1e-2)"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, command_line):
    """A folder in which a net was trained, on photographs that are no longer there; tests only read it."""
    line = command_line(tmp_path_factory.mktemp("photographer"))
    photographs(line.folder / "photos")
    photographs(line.folder / "new", num=2, size=(31, 47))
    line("coarse", *SEARCH.split())
    shutil.move(line.folder / "photos", line.folder / "photos.gone")
    shutil.rmtree(line.folder / "data")
    shutil.copy(line.folder / "new" / "day" / "0.jpg", line.folder / "new" / ODD)
    return line


def rows_of(text):
    return list(csv.reader(io.StringIO(text, newline="")))


def test_photographs_are_told_apart_in_a_row_each(trained):
    done = trained("predict", "coarse", "new", "new/night/1.jpg", "-o", "told.csv")
    header, *rows = rows_of((trained.folder / "told.csv").read_bytes().decode())
    assert header == ["file", "class", "probability"]
    names = [f"new/{name}" for name in (ODD, "day/0.jpg", "day/1.jpg", "night/0.jpg", "night/1.jpg")]
    assert [row[0] for row in rows] == [*names, "new/night/1.jpg"]
    assert [row[1] for row in rows] == ["day", "day", "day", "night", "night", "night"]
    assert all(0.5 < float(row[2]) <= 1 for row in rows)
    assert (done.stdout, done.stderr) == ("", "6 images in told.csv\n")
    assert not (trained.folder / "data").exists()


def test_the_likeliest_classes_add_up(trained):
    shown = trained("predict", "coarse", "folder:new/day", "--top", 5)
    header, *rows = rows_of(shown.stdout)
    assert header == ["file", "class", "probability", "class_2", "probability_2"]  # there are only two
    assert [(row[1], row[3]) for row in rows] == [("day", "night")] * 2
    assert [float(row[2]) + float(row[4]) for row in rows] == pytest.approx([1, 1], abs=1e-5)
    assert shown.stderr == ""


def test_odd_files_are_named_and_skipped(trained):
    home = trained.folder / "odd"
    home.mkdir()
    good = (trained.folder / "new" / "night" / "0.jpg").read_bytes()
    Path(os.fsdecode(bytes(home) + b"/\xff\xfe.jpg")).write_bytes(good)
    (home / "cut.jpg").write_bytes(good[:300])
    (home / "notes.txt").write_text("")
    (trained.folder / "=1+1.jpg").write_bytes(good)
    document = trained("predict", "coarse", "odd", "=1+1.jpg", "--json")
    shown = json.loads(document.stdout)
    assert (shown["study"], shown["classes"]) == ("coarse", ["day", "night"])
    names = [os.fsencode(each["file"]) for each in shown["predictions"]]
    assert names == [b"odd/\xff\xfe.jpg", b"=1+1.jpg"]
    assert [each["class"] for each in shown["predictions"]] == ["night", "night"]
    [failed] = shown["failed"]
    assert failed["file"] == "odd/cut.jpg"
    assert f"odd/cut.jpg cannot be decoded: {failed['why']}" in document.stderr
    assert "note: 1 file of another kind left out (.txt 1)" in document.stderr
    trained("predict", "coarse", "odd", "=1+1.jpg", "-o", "odd.csv")
    written = (trained.folder / "odd.csv").read_bytes().splitlines()[1:]
    assert [row.split(b",")[0] for row in written] == [b"odd/\xff\xfe.jpg", b"./=1+1.jpg"]  # no formula
    failed = trained("predict", "coarse", "odd/cut.jpg", "-o", "odd.csv", code=1)
    assert "no image could be read of 1 file" in failed.stderr
    assert (trained.folder / "odd.csv").read_bytes().splitlines()[1:] == written


def test_arrays_are_taken_as_the_net_was_trained_on_them(trained):
    x = [np.asarray(Image.open(trained.folder / "new" / name / "0.jpg").resize((30, 30))) for name in ("day", "night")]
    np.savez(trained.folder / "x.npz", x=np.stack(x))
    _, *rows = rows_of(trained("predict", "coarse", "npz:x.npz").stdout)
    assert [row[:2] for row in rows] == [["x.npz[0]", "day"], ["x.npz[1]", "night"]]
    np.savez(trained.folder / "small.npz", x=np.stack(x)[:, :29])
    refused = trained("predict", "coarse", "small.npz", code=1)
    assert "small.npz holds uint8 in shape (2, 29, 30, 3)" in refused.stderr
    assert "uint8 in shape (N, 3, 30, 30)" in refused.stderr
    assert refused.stdout == ""


def test_any_trial_whose_weights_are_kept_can_be_asked(trained):
    said = {n: trained("predict", "coarse", "new/day/0.jpg", "--trial", n).stdout for n in range(2)}
    assert len(set(said.values())) == 2
    best = trained.json("best", "coarse")["number"]
    assert trained("predict", "coarse", "new/day/0.jpg").stdout == said[best]
    assert "has no trial 7" in trained("predict", "coarse", "new", "--trial", 7, code=2).stderr
    assert "nowhere.jpg is not there" in trained("predict", "coarse", "nowhere.jpg", code=2).stderr
    (trained.folder / "empty").mkdir(exist_ok=True)
    assert "no images in empty" in trained("predict", "coarse", "empty", code=2).stderr


def test_the_best_net_is_written_once(trained):
    written = trained("best", "coarse", "--weights", "net")
    assert "weights  in net; without hpsearch: python net/predict.py IMAGE..." in written.stderr
    files = sorted(path.name for path in (trained.folder / "net").iterdir())
    assert files == ["model.toml", "predict.py", "weights.safetensors"]
    (trained.folder / "net" / "weights.safetensors").unlink()
    (trained.folder / "net" / "predict.py").write_text("mine")
    refused = trained("best", "coarse", "--weights", "net", code=2)
    assert "is there already.\nReplace it with --force" in refused.stderr
    assert (trained.folder / "net" / "predict.py").read_text() == "mine"
    forced = trained.json("best", "coarse", "--weights", "net", "--force")
    assert forced["files"] == [f"net/{name}" for name in ("weights.safetensors", "model.toml", "predict.py")]
    assert (trained.folder / "net" / "predict.py").read_text() != "mine"
    assert "is a file" in trained("best", "coarse", "--weights", "net/predict.py", "--force", code=2).stderr


def test_an_onnx_model_needs_a_folder(trained):
    refused = trained("best", "coarse", "--onnx", code=2)
    assert "--onnx says what is written to a folder.\nAllowed: with --weights FOLDER." in refused.stderr


@pytest.mark.slow  # the exporter takes seconds; tests/search/test_weights_folder.py has some nets in each run
def test_the_best_net_is_written_as_an_onnx_model_too(trained):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    written = trained.json("best", "coarse", "--weights", "onnx", "--onnx")
    assert [Path(name).name for name in written["files"]] == [*FILES]
    said = trained.json("predict", "coarse", "new", "--top", 2)
    model = onnxruntime.InferenceSession(trained.folder / "onnx" / "model.onnx", providers=["CPUExecutionProvider"])
    classes = json.loads(model.get_modelmeta().custom_metadata_map["classes"])
    images = []
    for each in said["predictions"]:
        with Image.open(trained.folder / each["file"]) as image:
            images.append(np.asarray(image.convert("RGB").resize((30, 30), Image.Resampling.BILINEAR)))
    [p_NC] = model.run(None, {"images": np.stack(images).transpose(0, 3, 1, 2)})
    for row, each in zip(p_NC, said["predictions"], strict=True):
        assert dict(zip(classes, row.tolist(), strict=True)) == pytest.approx(
            {one["class"]: one["probability"] for one in each["top"]}, abs=1e-5
        )


def test_weights_of_an_older_version_need_the_training_images(trained, command_line, tmp_path):
    """It kept no more than weights: what was done to images is taken from them, where they still are."""
    line = command_line(tmp_path / "older")
    shutil.copytree(trained.folder, line.folder)
    db = open_database(f"sqlite:///{line.folder}/studies/hpsearch.db")
    kept = load_portrait(find_study(db, "coarse")).path
    moved = line.folder / "studies" / "artifacts" / kept.name
    older = {name: tensor for name, tensor in load_file(kept).items() if not name.startswith("images/")}
    save_file(older, moved, {"trial": "0"})
    shutil.move(kept, f"{kept}.away")  # so that the one beside the copied database is taken
    try:
        refused = line("predict", "coarse", "new/day", code=1)
        assert "kept by an older version of hpsearch" in refused.stderr
        assert "photos is not a folder" in refused.stderr
        shutil.move(line.folder / "photos.gone", line.folder / "photos")
        expected = rows_of(line("predict", "coarse", "new/day").stdout)
    finally:
        shutil.move(f"{kept}.away", kept)
    assert expected == rows_of(trained("predict", "coarse", "new/day").stdout)


def test_a_procedure_ends_with_the_command_that_uses_its_net(hpsearch):
    photographs(hpsearch.folder / "photos", num=6)
    tiny = [
        "--model",
        "linear",
        "--set",
        "coarse.trials=2",
        "--set",
        "coarse.epochs=1",
        "--max-stages",
        "1",
        "--skip-checks",
    ]
    done = hpsearch("run", "--data", "folder:photos", *tiny)
    [use] = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("use ")]
    assert use == ["hpsearch", "predict", "coarse", "IMAGES"]
    assert hpsearch(*use[1:-1], "photos/day/0.jpg").stdout.startswith("file,class,probability\nphotos/day/0.jpg,")
