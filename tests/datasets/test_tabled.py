"""Images by a table: csv:FILE, and folders with metadata as Hugging Face has them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pictures import flat, picture
from PIL import Image

from hpsearch.config import DataConfig, StudyConfig
from hpsearch.datasets.sources import Images, load_test, load_train
from hpsearch.errors import ConfigError, DataError

Row = Sequence[object]


def images_of(tmp_path: Path, num: int = 30) -> list[str]:
    """Pictures whose first pixel is their number."""
    for i in range(num):
        path = tmp_path / "shots" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), i, dtype=np.uint8)).save(path)
    return [f"shots/{i}.png" for i in range(num)]


def write(path: Path, header: Row, rows: Sequence[Row]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def load(source: str, tmp_path: Path, *, test: bool = False, **keys: object) -> Images:
    config = DataConfig.model_validate({"source": source, **keys})
    return (load_test if test else load_train)(config, tmp_path / "data")


def numbers(images: Images) -> list[int]:
    return sorted(images.x[:, 0, 0, 0].tolist())


def test_a_table_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = images_of(tmp_path)
    write(tmp_path / "shots.csv", ["File", "age", "Class"], [[name, 7, "ab"[i % 2]] for i, name in enumerate(names)])
    monkeypatch.chdir(tmp_path)
    train, test = load("csv:shots.csv", tmp_path), load("csv:shots.csv", tmp_path, test=True)
    assert train.class_names == ("a", "b")
    assert sorted(numbers(train) + numbers(test)) == list(range(30))
    assert len(test) == 6
    assert all(number % 2 == label for number, label in zip(train.x[:, 0, 0, 0], train.y, strict=True))
    assert train.notes == (
        "8x8 images, as they are",
        "20% of each class set aside as the test split",
        "columns of shots.csv: path = File, label = Class",
    )
    (tmp_path / "shots").rename(tmp_path / "elsewhere")
    with pytest.raises(
        DataError, match=r"shots\.csv: 30 files are not there \(line 2: shots/0\.png; .*\.\.\.\)\.\nRel"
    ):
        load("csv:shots.csv", tmp_path)


def test_the_order_of_rows_makes_no_difference(tmp_path: Path) -> None:
    rows = [[name, i % 3] for i, name in enumerate(images_of(tmp_path))]
    one = load(f"csv:{write(tmp_path / 'a.csv', ['path', 'label'], rows)}", tmp_path)
    other = load(f"csv:{write(tmp_path / 'b.csv', ['path', 'label'], rows[::-1])}", tmp_path)
    assert one.fingerprint() == other.fingerprint()
    absolute = [[tmp_path / name, label] for name, label in rows]
    assert load(f"csv:{write(tmp_path / 'c.csv', ['path', 'label'], absolute)}", tmp_path).fingerprint() == (
        one.fingerprint()
    )


@pytest.mark.parametrize(("val", "test"), [("val", "test"), ("Validation", "TESTING"), ("valid", "Test")])
def test_the_split_column_is_honoured(tmp_path: Path, val: str, test: str) -> None:
    names = images_of(tmp_path)
    splits = [*["train"] * 20, *[val] * 6, *[test] * 4]
    rows = [[name, i % 2, split] for i, (name, split) in enumerate(zip(names, splits, strict=True))]
    source = f"csv:{write(tmp_path / 'a.csv', ['path', 'label', 'split'], rows)}"
    train = load(source, tmp_path)
    assert train.val_rows is not None
    assert sorted(train.x[train.val_rows, 0, 0, 0].tolist()) == list(range(20, 26))
    assert numbers(load(source, tmp_path, test=True)) == [26, 27, 28, 29]
    assert "validation: the 6 images that are given; data.val draws none" in train.notes
    assert "columns of a.csv: path = path, label = label, split = split" in train.notes
    whole = load(source, tmp_path, csv={"split": "none"})
    assert (len(whole), whole.val_rows) == (24, None)


def test_columns_may_be_given(tmp_path: Path) -> None:
    names = images_of(tmp_path)
    rows = [[name, "x", i % 2, ["fit", "train"][i % 2], f"p{i // 3}"] for i, name in enumerate(names)]
    path = write(tmp_path / "a.csv", ["bild", "label", "art", "split", "patientin"], rows)
    columns = {"path": "bild", "label": "art", "split": "none"}
    images = load(f"csv:{path}", tmp_path, csv={**columns, "group": "patientin"})
    assert images.class_names == ("0", "1")
    assert images.notes[-2:] == (
        "10 groups of images, each in one split alone",
        "columns of a.csv: path = bild, label = art, group = patientin",
    )
    assert load(f"csv:{path}", tmp_path, csv=columns, group="patientin").fingerprint() == images.fingerprint()
    by_name = load(f"csv:{path}", tmp_path, csv=columns, group=r"regex:^(.)")
    assert by_name.notes[-2].startswith("10 groups")
    with pytest.raises(ConfigError, match=r"data\.group = 'art' and data\.csv\.group = 'patientin' are two"):
        load(f"csv:{path}", tmp_path, csv={**columns, "group": "patientin"}, group="art")
    with pytest.raises(DataError, match=r"a\.csv has no column 'Art'\.\nIt has: 'bild', 'label', 'art'"):
        load(f"csv:{path}", tmp_path, csv={"path": "bild", "label": "Art"})


def test_a_group_column_is_found_and_may_be_refused(tmp_path: Path) -> None:
    rows = [[name, i % 2, i // 2] for i, name in enumerate(images_of(tmp_path))]
    path = write(tmp_path / "a.csv", ["path", "label", "patient_id"], rows)
    found = load(f"csv:{path}", tmp_path)
    assert found.groups is not None
    assert set(np.bincount(found.groups)) == {2}
    assert load(f"csv:{path}", tmp_path, csv={"group": "none"}).groups is None
    leak = [[name, i % 2, i // 2, "test" if i == 3 else "train"] for i, name in enumerate(images_of(tmp_path))]
    write(tmp_path / "a.csv", ["path", "label", "patient_id", "split"], leak)
    with pytest.raises(DataError, match=r"^group '1' has images in the train and in the test split"):
        load(f"csv:{path}", tmp_path)


def test_labels_that_are_numbers_are_in_their_order(tmp_path: Path) -> None:
    rows = [[name, (2, 10, 1)[i % 3]] for i, name in enumerate(images_of(tmp_path))]
    assert load(f"csv:{write(tmp_path / 'a.csv', ['path', 'y'], rows)}", tmp_path).class_names == ("1", "2", "10")


@pytest.mark.parametrize(
    ("header", "change", "message"),
    [
        (["path", "label"], {3: ["shots/3.png", ""]}, r"a\.csv, line 5 has no label: column 'label' is empty"),
        (["path", "label"], {3: ["", "a"]}, r"a\.csv, line 5 has no path"),
        (["path", "label"], {3: ["shots/./2.png", "a"]}, r"line 5 names .*2\.png again, as line 4 does"),
        (["path", "label"], {3: ["shots/no.png", "a"]}, r"1 file is not there \(line 5: .*shots/no\.png\)\.\nRelative"),
        (["path", "label"], {3: ["x" * 5000, "a"]}, r"1 file is not there \(line 5"),
        (["path", "split"], {}, r"has no column that is called label, class, .*\nIt has: 'path', 'split'; "),
        (["bild", "label"], {}, r"has no column that is called path, file_name, .*\n.*data\.csv\.path names one"),
        (["path", "label", "split"], {3: ["shots/3.png", "b", "dev"]}, r"split = 'dev' is not a split.*\n.*none"),
        (["path", "label", "split"], {3: ["shots/3.png", "c", "val"]}, r"line 5: label 'c' has no image to train on"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_its_line(tmp_path: Path, header: Row, change: dict[int, Row], message: str) -> None:
    rows: list[Row] = [[name, "ab"[i % 2], "train"][: len(header)] for i, name in enumerate(images_of(tmp_path))]
    for place, row in change.items():
        rows[place] = row
    with pytest.raises(DataError, match=message):
        load(f"csv:{write(tmp_path / 'a.csv', header, rows)}", tmp_path)


def test_a_table_of_one_class_or_of_no_training_images(tmp_path: Path) -> None:
    names = images_of(tmp_path, 4)
    with pytest.raises(DataError, match=r"has 1 label to train on"):
        load(f"csv:{write(tmp_path / 'a.csv', ['path', 'label'], [[n, 'a'] for n in names])}", tmp_path)
    with pytest.raises(DataError, match=r"no image to train on"):
        load(f"csv:{write(tmp_path / 'b.csv', ['path', 'label', 'split'], [[n, 'a', 'val'] for n in names])}", tmp_path)


def test_odd_images_go_through_a_table_as_through_a_folder(tmp_path: Path) -> None:
    root = flat(tmp_path / "pictures")
    Image.new("RGBA", (40, 30)).save(root / "cat" / "icon.png")
    picture(root / "dog" / "gray.JFIF.png", color=500, mode="L", size=(300, 200))
    (root / "owl" / "photo").write_bytes((root / "owl" / "0.png").read_bytes())  # no suffix
    files = sorted(path for path in root.rglob("*") if path.is_file())
    table = write(tmp_path / "a.csv", ["path", "label"], [[f.relative_to(tmp_path), f.parent.name] for f in files])
    images = load(f"csv:{table}", tmp_path, size=8, resize="crop")
    assert images.class_names == ("cat", "dog", "owl")
    assert "cropped in the middle to 8x8" in images.notes[0]
    (root / "owl" / "photo").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"owl/photo \(.* split\) cannot be decoded: it is no image"):
        load(f"csv:{table}", tmp_path)


def metadata(folder: Path, rows: Sequence[Row], kind: str) -> None:
    if kind == "csv":
        write(folder / "metadata.csv", ["file_name", "label"], rows)
    else:
        lines = [json.dumps({"file_name": name, "label": label}) for name, label in rows]
        (folder / "metadata.jsonl").write_text("\n".join(lines))


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_metadata_beside_the_images_says_their_labels(tmp_path: Path, kind: str) -> None:
    rows = [[Path(name).name, "ab"[i % 2]] for i, name in enumerate(images_of(tmp_path))]
    metadata(tmp_path / "shots", rows, kind)
    images = load(f"folder:{tmp_path / 'shots'}", tmp_path)
    assert images.class_names == ("a", "b")
    assert images.notes[-1] == f"columns of metadata.{kind}: path = file_name, label = label"
    assert len(images) + len(load(f"folder:{tmp_path / 'shots'}", tmp_path, test=True)) == 30


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("where", ["in each split", "above all"])
def test_metadata_of_splits(tmp_path: Path, kind: str, where: str) -> None:
    root, above = tmp_path / "pictures", []
    for split, num in (("train", 20), ("validation", 6), ("test", 4)):
        rows = []
        for i in range(num):
            picture(root / split / "images" / f"{i}.png", color=100 * num + i)
            rows.append([f"images/{i}.png", "ab"[i % 2]])
            above.append([f"{split}/images/{i}.png", "ab"[i % 2]])
        if where == "in each split":
            metadata(root / split, rows, kind)
    if where == "above all":
        metadata(root, above, kind)
    images = load(f"folder:{root}", tmp_path)
    assert images.val_rows is not None
    assert (len(images), len(images.val_rows)) == (26, 6)
    assert len(load(f"folder:{root}", tmp_path, test=True)) == 4
    assert "set aside" not in " ".join(images.notes)


def test_class_folders_stay_the_classes_where_metadata_has_no_labels(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    for split in ("train", "validation", "test"):
        flat(root / split, num=5)
        write(root / split / "metadata.csv", ["file_name", "caption"], [["cat/0.png", "a cat"]])
    images = load(f"folder:{root}", tmp_path)
    assert images.class_names == ("cat", "dog", "owl")
    assert images.val_rows is not None
    assert (len(images), len(images.val_rows), len(load(f"folder:{root}", tmp_path, test=True))) == (30, 15, 15)


def test_studies_from_before_stay_the_same() -> None:
    plain = StudyConfig().plain()["data"]
    assert not plain.keys() & {"csv", "group", "resize"}
    given = StudyConfig.model_validate({"data": {"csv": {"path": "x"}}}).plain()["data"]
    assert given["csv"] == {"path": "x", "label": None, "split": None, "group": None}
