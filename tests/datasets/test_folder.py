from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import flat, load, picture
from PIL import Image, ImageOps

from hpsearch.config import DataConfig
from hpsearch.datasets.preparing import prepare
from hpsearch.datasets.sources import load_test, load_train
from hpsearch.datasets.splits import divide
from hpsearch.errors import DataError

BILINEAR = Image.Resampling.BILINEAR


def test_classes_are_folders_and_images_become_squares(tmp_path: Path) -> None:
    root = flat(tmp_path / "pictures")
    train = load(root, tmp_path, size=8)
    assert train.class_names == ("cat", "dog", "owl")
    assert train.x.shape == (24, 3, 8, 8)
    assert train.x.dtype == np.uint8
    assert np.bincount(train.y).tolist() == [8, 8, 8]
    assert load(root, tmp_path).x.shape == (24, 3, 12, 12), "their own size where none is given"


def test_pixels_are_those_of_pillow(tmp_path: Path) -> None:
    root = flat(tmp_path / "pictures")
    train, test = load(root, tmp_path, size=8), load(root, tmp_path, size=8, test=True)
    loaded = {image.tobytes() for image in np.concatenate([train.x, test.x])}
    for path in root.rglob("*.png"):
        with Image.open(path) as image:
            expected = np.asarray(image.resize((8, 8), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        assert expected.tobytes() in loaded
    assert len(loaded) == 30, "each image is in one of the splits"


def test_crops_are_the_squares_in_the_middle(tmp_path: Path) -> None:
    root = flat(tmp_path / "pictures")
    picture(root / "dog" / "portrait.png", color=777, size=(11, 40))
    load(root, tmp_path, size=8)
    splits = [load(root, tmp_path, size=8, resize="crop", test=test) for test in (False, True)]
    loaded = {image.tobytes() for images in splits for image in images.x}
    for path in root.rglob("*.png"):
        with Image.open(path) as image:
            expected = np.asarray(ImageOps.fit(image, (8, 8), BILINEAR))
        assert expected.transpose(2, 0, 1).tobytes() in loaded
    assert "cropped in the middle to 8x8" in splits[0].notes[0]
    assert splits[0].fingerprint() != load(root, tmp_path, size=8).fingerprint()


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("TRAIN", "Test"), ("Training", "Testing")])
def test_a_test_folder_is_the_test_split(tmp_path: Path, train: str, test: str) -> None:
    root = tmp_path / "pictures"
    flat(root / train)
    picture(root / test / "dog" / "a.png")
    (root / "labels").mkdir()
    (root / "labels" / "boxes.xml").write_text("no image, so no class")
    images = load(root, tmp_path)
    assert (len(images), images.class_names, images.val_rows) == (30, ("cat", "dog", "owl"), None)
    assert load(root, tmp_path, test=True).y.tolist() == [1]
    picture(root / test / "emu" / "a.png")
    with pytest.raises(DataError, match=r"emu is a class without training images"):
        load(root, tmp_path)


def test_nothing_of_the_training_split_depends_on_the_test_images(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    flat(root / "train", mode="L")
    picture(root / "test" / "dog" / "a.png", mode="L")
    before = load(root, tmp_path)
    picture(root / "test" / "cat" / "b.png", size=(900, 700))
    Image.fromarray(np.full((90, 90), 60_000, dtype=np.uint16)).save(root / "test" / "cat" / "deep.png")
    after = load(root, tmp_path)
    assert after.fingerprint() == before.fingerprint()
    assert after.notes == before.notes
    assert load(root, tmp_path, test=True).shape == before.shape


@pytest.mark.parametrize("name", ["val", "Valid", "VALIDATION"])
@pytest.mark.parametrize("tested", [True, False])
def test_a_validation_folder_is_the_hold_out(tmp_path: Path, name: str, tested: bool) -> None:
    root = tmp_path / "pictures"
    flat(root / "train")
    for i in range(4):
        picture(root / name / "cat" / f"{i}.png", color=900 + i)
    picture(root / name / "owl" / "0.png", color=905)
    if tested:
        picture(root / "test" / "dog" / "a.png", color=906)
    config = DataConfig(source=f"folder:{root}", size=8, val=0.5, normalize="none")
    images, test = load_train(config, tmp_path), load_test(config, tmp_path)
    assert len(test) == (1 if tested else 6)
    train, val = divide(config, images.y, images.val_rows)
    assert images.y[val].tolist() == [0] * 4 + [2]
    assert len(train) == len(images) - 5 == (30 if tested else 24)
    data = prepare(config, torch.device("cpu"), torch.float32, tmp_path)
    with Image.open(root / name / "owl" / "0.png") as image:
        expected = np.asarray(image.resize((8, 8), Image.Resampling.BILINEAR)).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(data.x_val_NCHW[4], expected, atol=1e-6)
    few = prepare(config.model_copy(update={"limit": 9}), torch.device("cpu"), torch.float32, tmp_path)
    assert (len(few.y_train_N), len(few.y_val_N)) == (9, 5), "data.limit leaves the hold-out alone"
    assert few.fingerprint == data.fingerprint
    (root / name / "owl" / "0.png").rename(root / "train" / "owl" / "moved.png")
    assert load_train(config, tmp_path).fingerprint() != data.fingerprint


def test_notes_say_what_became_of_a_folder(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    flat(root / "Training")
    picture(root / "Validation" / "cat" / "a.png")
    picture(root / "Validation" / "loose.png")
    for name in ("1.heic", "2.HEIC", "notes.txt", "README", "Thumbs.db", ".DS_Store", "desktop.ini"):
        (root / "Training" / "cat" / name).write_bytes(b"")
    (root / "__MACOSX").mkdir()
    picture(root / "__MACOSX" / "._a.png")
    images = load(root, tmp_path)
    assert images.notes == (
        "images of 10x12 to 19x12 squeezed to 12x12; data.size sets another size",
        "validation: the one image of Validation/, which lacks 2 of the classes; data.val draws none",
        "20% of each class of Training/ set aside as the test split",
        "4 files of other kinds left out (.heic 2, .txt 1, none 1); pip install pillow-heif reads .heic",
        "1 image outside the class folders left out",
    )
    data = prepare(DataConfig(source=f"folder:{root}"), torch.device("cpu"), torch.float32, tmp_path)
    assert data.notes == images.notes, "from the cache, too"


def test_heic_is_read_where_its_reader_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = flat(tmp_path / "pictures", num=5)
    (root / "cat" / "0.png").rename(root / "cat" / "0.HEIC")
    assert "(.heic 1)" in load(root, tmp_path).notes[-1]
    reader = types.ModuleType("pillow_heif")
    reader.register_heif_opener = lambda: Image.register_extension("PNG", ".heic")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pillow_heif", reader)
    monkeypatch.setattr(Image, "EXTENSION", dict(Image.registered_extensions()))
    train, test = load(root, tmp_path), load(root, tmp_path, test=True)
    assert len(train) + len(test) == 15
    assert "left out" not in " ".join(train.notes)


def test_the_folder_may_be_that_in_which_hpsearch_keeps_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat(tmp_path, num=5)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "hpsearch.db").write_bytes(b"")
    first = load(Path(), Path("data"))
    assert (tmp_path / "data" / "cache").is_dir()
    assert load(Path(), Path("data")).class_names == first.class_names == ("cat", "dog", "owl")
    flat(tmp_path / "data", num=5)
    for _ in range(2):
        assert load(Path("data"), Path("data")).class_names == first.class_names
    assert load(Path(), Path("data")).class_names == ("cat", "data", "dog", "owl"), "a class, if it has images"


def test_gray_images_have_one_channel_unless_one_is_in_color(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    flat(root / "train", mode="L")
    picture(root / "test" / "cat" / "color.png", mode="RGB")
    assert load(root, tmp_path).x.shape[1] == 1
    assert load(root, tmp_path, test=True).x.shape[1] == 1, "as in training"
    picture(root / "train" / "cat" / "color.png", mode="RGB")
    assert load(root, tmp_path).x.shape[1] == 3


def test_images_of_16_bits_share_one_range_that_of_the_training_images(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    for split, top in (("train", 4000), ("test", 9000)):
        for name in ("cat", "dog"):
            for i in range(5):
                (root / split / name).mkdir(parents=True, exist_ok=True)
                scan = np.full((12, 12), top * (i + 1) // 5 // (1 if name == "cat" else 2), dtype=np.uint16)
                Image.fromarray(scan).save(root / split / name / f"{i}.{'png' if i % 2 else 'tif'}")
    train = load(root, tmp_path)
    assert train.x.shape == (10, 1, 12, 12)
    assert train.x[:, 0, 0, 0].tolist() == [51, 102, 153, 204, 255, 26, 51, 76, 102, 128]  # 4000 is white
    assert load(root, tmp_path, test=True).x[:5, 0, 0, 0].tolist() == [115, 230, 255, 255, 255]
    assert (
        train.notes[1] == "10 training images have more than 8 bits: 0 ... 4,000, the values in use, become 0 ... 255"
    )


def test_classes_without_images_and_too_few_classes(tmp_path: Path) -> None:
    root = flat(tmp_path / "pictures")
    (root / "empty").mkdir()
    (root / "empty" / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match=r"empty has no image.\nAllowed: files .*; 1 file of another kind left out"):
        load(root, tmp_path)
    picture(tmp_path / "single" / "cat" / "a.png")
    with pytest.raises(DataError, match=r"single has 1 class folder\.\nAllowed: at least 2\."):
        load(tmp_path / "single", tmp_path)
    flat(tmp_path / "archive" / "pictures")
    with pytest.raises(
        DataError, match=r"archive has 1 class folder\.\n.*; those of .*archive/pictures are one level down\."
    ):
        load(tmp_path / "archive", tmp_path)
    with pytest.raises(DataError, match=r"nowhere is not a folder"):
        load(tmp_path / "nowhere", tmp_path)


def test_links_are_followed_and_other_files_passed_over(tmp_path: Path) -> None:
    root = flat(tmp_path / "pictures", num=5)
    picture(tmp_path / "outside" / "deep" / "a.JPG")
    (root / "cat" / "more").symlink_to(tmp_path / "outside")
    (root / "cat" / "circle").symlink_to(root / "cat")
    (root / "cat" / "notes.txt").write_text("no image")
    (root / "cat" / "._0.png").write_bytes(b"left by another system")
    (root / ".cache").mkdir()
    train, test = load(root, tmp_path), load(root, tmp_path, test=True)
    assert train.class_names == ("cat", "dog", "owl")
    assert len(train) + len(test) == 16
