from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hpsearch.config import DataConfig
from hpsearch.datasets import decoding
from hpsearch.datasets.sources import Images, load_test, load_train
from hpsearch.errors import DataError


def picture(path: Path, color: int = 0, mode: str = "RGB", size: tuple[int, int] = (20, 12)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(color).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


def flat(root: Path, num: int = 10, mode: str = "RGB") -> Path:
    for label, name in enumerate(("cat", "dog", "owl")):
        for i in range(num):
            picture(root / name / f"{i}.png", color=100 * label + i, mode=mode, size=(10 + i, 12))
    return root


def load(root: Path, data_dir: Path, *, test: bool = False, **keys: int) -> Images:
    load_split = load_test if test else load_train
    return load_split(DataConfig(source=f"folder:{root}", **keys), data_dir)


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files decoded from here on."""
    decoded: list[Path] = []
    original = decoding.decode

    def counting(path: Path, size: int, channels: int) -> np.ndarray:
        decoded.append(path)
        return original(path, size, channels)

    monkeypatch.setattr(decoding, "decode", counting)
    return decoded


def test_classes_are_folders_and_images_become_squares(tmp_path: Path) -> None:
    root = flat(tmp_path / "pictures")
    train = load(root, tmp_path, size=8)
    assert train.class_names == ("cat", "dog", "owl")
    assert train.x.shape == (24, 3, 8, 8)
    assert train.x.dtype == np.uint8
    assert np.bincount(train.y).tolist() == [8, 8, 8]
    assert load(root, tmp_path).x.shape == (24, 3, 32, 32), "32 where no size is given"


def test_pixels_are_those_of_pillow(tmp_path: Path) -> None:
    root = flat(tmp_path / "pictures")
    train, test = load(root, tmp_path, size=8), load(root, tmp_path, size=8, test=True)
    loaded = {image.tobytes() for image in np.concatenate([train.x, test.x])}
    for path in root.rglob("*.png"):
        with Image.open(path) as image:
            expected = np.asarray(image.resize((8, 8), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        assert expected.tobytes() in loaded
    assert len(loaded) == 30, "each image is in one of the splits"


def test_the_test_share_is_not_decoded_for_training(tmp_path: Path, decodings: list[Path]) -> None:
    root = flat(tmp_path / "pictures")
    load(root, tmp_path)
    for path in set(root.rglob("*.png")) - set(decodings):
        path.write_bytes(b"damaged")
    assert len(load(root, tmp_path)) == 24
    with pytest.raises(DataError, match="cannot be decoded"):
        load(root, tmp_path, test=True)


@pytest.mark.parametrize("name", ["test", "val"])
def test_a_test_folder_is_used_and_not_touched_for_training(tmp_path: Path, name: str) -> None:
    root = tmp_path / "pictures"
    flat(root / "train")
    picture(root / name / "dog" / "a.png")
    assert len(load(root, tmp_path)) == 30
    test = load(root, tmp_path, test=True)
    assert test.y.tolist() == [1]
    (root / name / "dog" / "a.png").write_bytes(b"damaged")
    assert len(load(root, tmp_path)) == 30
    picture(root / name / "emu" / "a.png")
    assert len(load(root, tmp_path)) == 30
    with pytest.raises(DataError, match=r"emu is a class without training images"):
        load(root, tmp_path, test=True)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("bus", "train"):
        for i in range(5):
            picture(tmp_path / "p" / name / f"{i}.png", i)
    assert load(tmp_path / "p", tmp_path).class_names == ("bus", "train")


def test_gray_images_have_one_channel_unless_one_is_in_color(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    flat(root / "train", mode="L")
    picture(root / "test" / "cat" / "color.png", mode="RGB")
    assert load(root, tmp_path).x.shape[1] == 1
    assert load(root, tmp_path, test=True).x.shape[1] == 1, "as in training"
    picture(root / "train" / "cat" / "color.png", mode="RGB")
    assert load(root, tmp_path).x.shape[1] == 3


@pytest.mark.parametrize(
    ("mode", "suffix"), [("P", "gif"), ("RGBA", "png"), ("CMYK", "jpg"), ("1", "bmp"), ("LA", "png")]
)
def test_other_kinds_of_pixels_are_converted(tmp_path: Path, mode: str, suffix: str) -> None:
    root = flat(tmp_path / "pictures")
    picture(root / "cat" / f"x.{suffix}", mode=mode)
    image = decoding.decode(root / "cat" / f"x.{suffix}", 8, 3)
    assert image.shape == (3, 8, 8)
    assert image.dtype == np.uint8


def test_transparent_palettes_and_turned_photographs(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", mode="P")
    with Image.open(tmp_path / "a.png") as image:
        image.save(tmp_path / "b.png", transparency=bytes([0, 128, 255]))
    assert decoding.decode(tmp_path / "b.png", 8, 3).shape == (3, 8, 8)

    upright = Image.fromarray(np.repeat(np.array([[0], [255]], np.uint8), 2, axis=1))  # dark above, light below
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    upright.save(tmp_path / "c.png", exif=exif)
    assert decoding.decode(tmp_path / "c.png", 2, 1)[0].tolist() == [[255, 255], [0, 0]]


def test_the_second_load_decodes_nothing(tmp_path: Path, decodings: list[Path]) -> None:
    root = flat(tmp_path / "pictures")
    first = load(root, tmp_path)
    assert len(decodings) == 24
    again = load(root, tmp_path)
    assert len(decodings) == 24
    assert isinstance(again.x, np.memmap)
    np.testing.assert_array_equal(first.x, again.x)

    moved = root.rename(tmp_path / "elsewhere")
    load(moved, tmp_path)
    assert len(decodings) == 24, "the key is the content, not the place"


def test_changed_content_or_size_is_decoded_again(tmp_path: Path, decodings: list[Path]) -> None:
    root = flat(tmp_path / "pictures")
    before = load(root, tmp_path)
    path = decodings[0]
    times = (path.stat().st_atime, path.stat().st_mtime)
    picture(path, color=999, size=(10, 12))
    os.utime(path, times)
    after = load(root, tmp_path)
    assert len(decodings) == 48
    assert (before.x != after.x).any()
    load(root, tmp_path, size=16)
    assert len(decodings) == 72


def test_a_renamed_class_is_not_mistaken_for_the_old_one(tmp_path: Path) -> None:
    root = flat(tmp_path / "pictures")
    load(root, tmp_path)
    (root / "cat").rename(root / "yak")
    assert load(root, tmp_path).class_names == ("dog", "owl", "yak")
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_progress_counts_the_images(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    config = DataConfig(source=f"folder:{flat(tmp_path / 'pictures')}")
    load_train(config, tmp_path, lambda done, total: seen.append((done, total)))
    assert seen == [(done, 24) for done in range(1, 25)]


@pytest.mark.parametrize("damage", [lambda content: content[:90], lambda _: b"", lambda _: b"text"])
def test_a_damaged_image_is_named_and_nothing_is_cached(tmp_path: Path, damage: object) -> None:
    root = flat(tmp_path / "pictures", num=1)
    flat(root / "train")
    path = root / "train" / "dog" / "3.png"
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(DataError, match=r"dog/3\.png cannot be decoded"):
        load(root, tmp_path)
    assert not list((tmp_path / "cache").glob("*"))


def test_images_of_16_bits_are_refused(tmp_path: Path) -> None:
    root = flat(tmp_path / "pictures")
    Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16)).save(root / "cat" / "deep.png")
    with pytest.raises(DataError, match=r"deep.png cannot be decoded: pixels of mode I;16, not of 8 bits"):
        decoding.decode(root / "cat" / "deep.png", 8, 1)


def test_classes_without_images_and_too_few_classes(tmp_path: Path) -> None:
    root = flat(tmp_path / "pictures")
    (root / "empty").mkdir()
    (root / "empty" / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match=r"empty has no image"):
        load(root, tmp_path)
    picture(tmp_path / "single" / "cat" / "a.png")
    with pytest.raises(DataError, match=r"single has 1 class folders.\nAllowed: at least 2"):
        load(tmp_path / "single", tmp_path)
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


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    root = flat(tmp_path / "pictures")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"the cache .* cannot be written"):
        load(root, tmp_path / "file")
