"""The cache of a folder's images, and the files that cannot go into it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tracemalloc
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from pictures import flat, load, picture
from PIL import Image

from hpsearch.config import DataConfig
from hpsearch.datasets import blocks, decoded
from hpsearch.datasets.decoding import Recipe
from hpsearch.datasets.images import Progress
from hpsearch.datasets.sources import load_train
from hpsearch.errors import DataError


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files decoded from here on."""
    files: list[Path] = []
    original = decoded.decode

    def counting(path: Path, recipe: Recipe) -> np.ndarray:
        files.append(path)
        return original(path, recipe)

    monkeypatch.setattr(decoded, "decode", counting)
    return files


def test_all_images_are_decoded_at_once_and_none_of_the_test_split_is_given(
    tmp_path: Path, decodings: list[Path]
) -> None:
    root = flat(tmp_path / "pictures")
    train = load(root, tmp_path)
    assert sorted(decodings) == sorted(root.rglob("*.png"))
    test = load(root, tmp_path, test=True)
    assert len(decodings) == 30, "the test split is there already"
    assert (len(train), len(test)) == (24, 6)
    assert not {image.tobytes() for image in train.x} & {image.tobytes() for image in test.x}


def test_the_second_load_decodes_nothing(tmp_path: Path, decodings: list[Path]) -> None:
    root = flat(tmp_path / "pictures")
    first = load(root, tmp_path)
    assert len(decodings) == 30
    again = load(root, tmp_path)
    assert len(decodings) == 30
    assert isinstance(again.x, np.memmap)
    np.testing.assert_array_equal(first.x, again.x)

    moved = root.rename(tmp_path / "elsewhere")
    load(moved, tmp_path)
    assert len(decodings) == 30, "the key is the content, not the place"


def test_changed_content_or_size_is_decoded_again(tmp_path: Path, decodings: list[Path]) -> None:
    root = flat(tmp_path / "pictures")
    before = load(root, tmp_path)
    path = decodings[0]
    times = (path.stat().st_atime, path.stat().st_mtime)
    picture(path, color=999, size=(10, 12))
    os.utime(path, times)
    after = load(root, tmp_path)
    assert len(decodings) == 60
    assert (before.x != after.x).any()
    load(root, tmp_path, size=16)
    assert len(decodings) == 90


def test_a_renamed_class_is_not_mistaken_for_the_old_one(tmp_path: Path) -> None:
    root = flat(tmp_path / "pictures")
    load(root, tmp_path)
    (root / "cat").rename(root / "yak")
    assert load(root, tmp_path).class_names == ("dog", "owl", "yak")
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 2


def test_progress_counts_the_images_of_all_splits(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    root = flat(tmp_path / "pictures")
    load_train(DataConfig(source=f"folder:{root}"), tmp_path, lambda done, total: seen.append((done, total)))
    assert seen == [(done, 30) for done in range(1, 31)]


@pytest.mark.parametrize("damage", [lambda content: content[:90], lambda _: b"", lambda _: b"text"])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_damaged_image_of_any_split_is_named_and_nothing_is_cached(
    tmp_path: Path, damage: Callable[[bytes], bytes], split: str
) -> None:
    root = tmp_path / "pictures"
    for name in ("train", "val", "test"):
        flat(root / name, num=5)
    path = root / split / "dog" / "3.png"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=rf"dog/3\.png \({split} split\) cannot be decoded: .*\nAllowed: .*remove"):
        load(root, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_damaged_image_in_the_share_for_the_test_is_found_before_any_training(tmp_path: Path) -> None:
    root = flat(tmp_path / "pictures")
    given = {image.tobytes() for image in load(root, tmp_path, size=12).x}
    for path in root.rglob("*.png"):
        with Image.open(path) as image:
            pixels = np.asarray(image.resize((12, 12), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        if pixels.tobytes() not in given:
            break
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=rf"{path.parent.name}/{path.name} \(test split\) cannot be decoded"):
        load(root, tmp_path)


def test_all_damaged_images_are_named_at_once(tmp_path: Path) -> None:
    root = flat(tmp_path / "pictures")
    paths = sorted(root.rglob("*.png"))
    for path in (paths[3], paths[17]):
        path.write_bytes(b"")
    with pytest.raises(
        DataError, match=r"^2 images cannot be decoded: .*3.png \(.* split\): .*7.png .*\n.*the files\.$"
    ):
        load(root, tmp_path)
    for path in paths:
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"^24 images cannot be decoded: .*; \.\.\.\.\nAllowed"):
        load(root, tmp_path)


def test_an_image_of_too_many_pixels_is_refused_and_oddities_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = flat(tmp_path / "pictures")
    large = root / "dog" / "large.jpg"
    picture(large, size=(300, 200))
    content = large.read_bytes()
    large.write_bytes(content[:2] + b"\xff\xe1\x00\x10Exif\x00\x00II*\x00\xff\xff\xff\xff" + content[2:])
    with pytest.warns(UserWarning), Image.open(large) as image:  # noqa: PT030 - whatever Pillow says of such a header
        image.getexif()
    assert load(root, tmp_path).class_names == ("cat", "dog", "owl")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50_000)
    reason = r"large.jpg \(.* split\) cannot be decoded: it claims more than the 50,000 pixels that an image may have"
    with pytest.raises(DataError, match=reason):
        load(root, tmp_path, size=8)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)
    with pytest.raises(DataError, match=reason.replace("50", "20")):
        load(root, tmp_path, size=8)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    root = flat(tmp_path / "pictures")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"the cache .* cannot be written"):
        load(root, tmp_path / "file")


SPAWN = multiprocessing.get_context("spawn")  # a fork of this process might wait for a lock of one of its threads


def decode_in_blocks_of_four(root: Path, cache: Path, log: Path, progress: Progress) -> None:
    """In a process of its own; `log` gets a line for each image."""
    original = decoded.decode

    def logged(path: Path, recipe: Recipe) -> np.ndarray:
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return original(path, recipe)

    blocks.MAX_IMAGES, decoded.decode = 4, logged
    load_train(DataConfig(source=f"folder:{root}"), cache, progress)


def decode_and_be_killed(root: Path, cache: Path, log: Path, number: int) -> None:
    def kill(done: int, total: int) -> None:
        if done == number:
            os.kill(os.getpid(), signal.SIGKILL)

    decode_in_blocks_of_four(root, cache, log, kill)


def decode_until_another_waits(root: Path, cache: Path, log: Path, begun: Connection, waits: Connection) -> None:
    def progress(done: int, total: int) -> None:
        if done == 10:  # the other one starts, and is heard of as it waits
            begun.send(None)
            waits.recv()

    decode_in_blocks_of_four(root, cache, log, progress)


def wait_for_another(root: Path, cache: Path, log: Path, waits: Connection) -> None:
    def progress(done: int, total: int) -> None:
        assert (done, total) in [(8, 30), (12, 30), (16, 30), (20, 30), (24, 30), (28, 30), (30, 30)]
        waits.send(None)

    decode_in_blocks_of_four(root, cache, log, progress)


@pytest.mark.slow
def test_a_kill_in_the_middle_costs_no_more_than_a_block(
    tmp_path: Path, decodings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "MAX_IMAGES", 4)
    root = flat(tmp_path / "pictures")
    whole = load(root, tmp_path / "elsewhere")
    for number in (1, 14, 23):
        process = SPAWN.Process(target=decode_and_be_killed, args=(root, tmp_path, tmp_path / "log", number))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    decodings.clear()
    seen: list[tuple[int, int]] = []
    config = DataConfig(source=f"folder:{root}")
    found = load_train(config, tmp_path, lambda done, total: seen.append((done, total)))
    assert len(decodings) == 10, "five blocks of four were whole"
    assert seen == [(done, 30) for done in range(20, 31)]
    np.testing.assert_array_equal(found.x, whole.x)
    assert found.notes == whole.notes
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".json", ".npy"]


@pytest.mark.slow
def test_of_two_processes_one_decodes_and_the_other_waits(tmp_path: Path) -> None:
    root, log = flat(tmp_path / "pictures"), tmp_path / "log"
    (begun, tells_begun), (waits, tells_waiting) = SPAWN.Pipe(duplex=False), SPAWN.Pipe(duplex=False)
    shared = root, tmp_path, log
    one = SPAWN.Process(target=decode_until_another_waits, args=(*shared, tells_begun, waits))
    one.start()
    begun.recv()
    two = SPAWN.Process(target=wait_for_another, args=(*shared, tells_waiting))
    two.start()
    for process in (one, two):
        process.join()
        assert process.exitcode == 0
    assert log.read_text().split() == [str(one.pid)] * 30
    for end in (begun, tells_begun, waits, tells_waiting):
        end.close()


@pytest.mark.parametrize("damage", ["cut", "a bit", "another recipe", "no recipe", "no array"])
def test_a_damaged_cache_is_written_anew(tmp_path: Path, decodings: list[Path], damage: str) -> None:
    root = flat(tmp_path / "pictures")
    before = np.array(load(root, tmp_path).x)
    array, recipe = (next((tmp_path / "cache").glob(f"*.{suffix}")) for suffix in ("npy", "json"))
    content = bytearray(array.read_bytes())
    match damage:
        case "cut":
            array.write_bytes(content[: len(content) // 2])
        case "a bit":
            content[len(content) // 2] ^= 1
            array.write_bytes(content)
        case "another recipe":
            recipe.write_text(recipe.read_text().replace('"size": 12', '"size": 11'))
        case "no recipe":
            recipe.write_text("[]")
        case "no array":
            array.unlink()
    decodings.clear()
    np.testing.assert_array_equal(load(root, tmp_path).x, before)
    assert len(decodings) == 30
    load(root, tmp_path)
    assert len(decodings) == 30


def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "MAX_IMAGES", 2)
    root = flat(tmp_path / "pictures")
    load(flat(tmp_path / "first", num=2), tmp_path)  # what is imported
    tracemalloc.start()
    try:
        load(root, tmp_path, size=200)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 30 * 3 * 200 * 200 / 3
