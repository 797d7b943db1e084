"""Images that are read as they are used."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import flat

from hpsearch.config import DataConfig
from hpsearch.config.augmentations import KINDS, MIXES
from hpsearch.datasets import image_file, normalization, preparing
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.image_file import ImageFile
from hpsearch.datasets.images import Images
from hpsearch.datasets.mixing import MixedLabels
from hpsearch.datasets.preparing import prepare, prepare_test
from hpsearch.datasets.room import SHARE, free_memory, room_for_images
from hpsearch.datasets.stored import NUM_AHEAD, Ahead, StoredImages
from hpsearch.errors import DataError

CPU = torch.device("cpu")


def both_ways(root: Path, tmp_path: Path, **keys: object) -> tuple[TrainingData, TrainingData]:
    config = DataConfig.model_validate({"source": f"folder:{root}", "val": 6, **keys})
    one, other = (prepare(config, CPU, torch.float32, tmp_path, room=room) for room in (0, 1))
    assert not one.on_disk
    assert other.on_disk
    return one, other


@pytest.mark.parametrize("normalize", ["channel", "pixel", "feature", "none"])
def test_all_that_is_asked_of_a_folder_is_the_same(tmp_path: Path, normalize: str) -> None:
    one, other = both_ways(flat(tmp_path / "pictures"), tmp_path, normalize=normalize, augment=["hflip"])
    assert isinstance(other.x_train_NCHW, StoredImages)
    assert isinstance(other.x_val_NCHW, StoredImages)
    assert one.fingerprint == other.fingerprint
    assert np.array_equal(one.normalization.mean, other.normalization.mean)
    assert np.array_equal(one.normalization.std, other.normalization.std)
    for number in (1, 2):
        for (x, y), (its_x, its_y) in zip(one.batches(3, number, 7), other.batches(3, number, 7), strict=True):
            assert torch.equal(x, its_x)
            assert torch.equal(y, its_y)
    assert torch.equal(torch.cat(list(other.x_val_NCHW.split(4))), one.x_val_NCHW)
    assert torch.equal(other.train_images(), one.train_images())
    assert torch.equal(other.train_sample(9)[0], one.train_sample(9)[0])
    assert other.x_train_NCHW.shape == tuple(one.x_train_NCHW.shape)


@pytest.mark.parametrize("mix", ["mixup:0.4", "cutmix:1"])
def test_images_on_disk_are_augmented_to_the_same_bit(tmp_path: Path, mix: str) -> None:
    kinds = [kind.form.replace(kind.letter, kind.example) for kind in KINDS.values() if kind.name not in MIXES]
    one, other = both_ways(flat(tmp_path / "pictures"), tmp_path, augment=[*kinds, mix])
    assert one.colours is not None
    assert other.colours is not None
    assert np.array_equal(one.colours.covariance_CC, other.colours.covariance_CC)
    for (x, y), (its_x, its_y) in zip(one.batches(3, 1, 7), other.batches(3, 1, 7), strict=True):
        assert torch.equal(x, its_x)
        assert isinstance(y, MixedLabels)
        assert isinstance(its_y, MixedLabels)
        assert torch.equal(y.second_B, its_y.second_B)


def test_batches_may_be_asked_for_in_any_order(tmp_path: Path) -> None:
    one, other = both_ways(flat(tmp_path / "pictures"), tmp_path)
    epoch, its = one.epoch(0, 1, 2), other.epoch(0, 1, 2)
    for step in (4, 0, 1, 7, 8, 2, 2):
        assert torch.equal(epoch.batch(step)[0], its.batch(step)[0])


def test_test_images_are_those_of_memory(tmp_path: Path) -> None:
    root = flat(tmp_path / "pictures")
    config = DataConfig(source=f"folder:{root}")
    one, other = both_ways(root, tmp_path)
    x, y = prepare_test(config, one, tmp_path)
    its_x, its_y = prepare_test(config, other, tmp_path, room=1)
    assert isinstance(its_x, StoredImages)
    assert torch.equal(torch.cat(list(its_x.split(4))), x)
    assert torch.equal(y, its_y)


def go_through(array: Path, room: int) -> int:
    """All images of a file, once: the most bytes of memory that it took beyond what there was before."""

    def load_train(*_: object) -> Images:
        x = np.load(array, mmap_mode="r")
        return Images(x, np.arange(len(x)) % 2, ("a", "b"), file=ImageFile.mapped(x))

    image_file.PART_BYTES = normalization.CHUNK_BYTES = 2**21
    preparing.load_train = load_train
    Path("/proc/self/clear_refs").write_text("5")
    begun = in_status("VmRSS")
    data = prepare(DataConfig(val=300), CPU, torch.float32, array.parent, room=room)
    for _ in data.batches(0, 1, 10):
        pass
    if isinstance(data.x_val_NCHW, StoredImages):
        for _ in data.x_val_NCHW.split(10):
            pass
    return in_status("VmHWM") - begun


def send_peaks(array: Path, rooms: list[int], sent: Connection) -> None:
    sent.send([go_through(array, room) for room in rooms])


def peak_bytes(array: Path, rooms: list[int]) -> list[int]:
    """In a process of its own: a fork of this one might wait for a lock of one of its threads."""
    context = multiprocessing.get_context("spawn")
    received, sent = context.Pipe(duplex=False)
    process = context.Process(target=send_peaks, args=(array, rooms, sent))
    process.start()
    sent.close()
    found: list[int] = received.recv()
    process.join()
    received.close()
    assert process.exitcode == 0
    return found


def in_status(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


@pytest.mark.slow
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="peaks are counted on Linux")
def test_more_images_than_memory_holds(tmp_path: Path) -> None:
    shape = (1500, 3, 128, 128)
    array = np.lib.format.open_memmap(tmp_path / "a.npy", mode="w+", dtype=np.uint8, shape=shape)
    array[:] = np.arange(1500, dtype=np.uint8)[:, None, None, None]
    array.flush()
    size = array.nbytes
    del array
    on_disk, in_memory = peak_bytes(tmp_path / "a.npy", rooms=[1, 0])
    assert in_memory > size
    assert on_disk < in_memory / 2


def test_a_file_that_is_cut_is_an_error(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((9, 1, 2, 2), dtype=np.uint8))
    x = np.load(tmp_path / "a.npy", mmap_mode="r")
    stored = StoredImages(ImageFile.mapped(x), np.arange(9), torch.uint8, CPU)
    os.truncate(tmp_path / "a.npy", 140)
    assert len(stored.index_select(0, torch.arange(3))) == 3
    with pytest.raises(DataError, match=r"a\.npy was cut while it was in use\.\nBegin again"):
        list(stored.split(9))


def test_what_is_read_ahead_is_bounded_and_what_went_wrong_is_raised_where_it_is_used() -> None:
    begun: list[int] = []
    third = threading.Event()

    def read(number: int) -> int:
        begun.append(number)
        if number == NUM_AHEAD - 1:
            third.set()
        if number == 5:
            raise DataError("gone")
        return number

    ahead = Ahead(read, 7)
    assert ahead.take(0) == 0
    third.wait()
    assert sorted(begun) == list(range(NUM_AHEAD))
    assert [ahead.take(number) for number in range(1, 5)] == [1, 2, 3, 4]
    with pytest.raises(DataError, match="gone"):
        ahead.take(5)
    assert ahead.take(6) == 6


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:   5 kB\n"}, 5 * 1024),
        (
            {
                "proc/meminfo": "MemAvailable: 5 kB\n",
                "sys/fs/cgroup/memory.max": "3000\n",
                "sys/fs/cgroup/memory.current": "2000\n",
                "sys/fs/cgroup/memory.stat": "anon 7\ninactive_file 500\n",
            },
            1500,
        ),
        (
            {
                "proc/meminfo": "MemAvailable: 5 kB\n",
                "sys/fs/cgroup/memory.max": "max\n",
                "sys/fs/cgroup/memory.current": "2000\n",
            },
            5 * 1024,
        ),
    ],
)
def test_free_memory_is_that_of_the_machine_or_of_its_container(
    tmp_path: Path, files: dict[str, str], free: int
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert free_memory(tmp_path) == free


def test_room_is_what_is_given_or_a_share_of_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpsearch.datasets.room.free_memory", lambda: 1000)
    assert room_for_images(CPU, 7) == 7
    assert room_for_images(CPU, 0) == SHARE * 1000
    root = flat(tmp_path / "pictures")
    assert prepare(DataConfig(source=f"folder:{root}"), CPU, torch.float32, tmp_path).on_disk
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (600, 900))
    assert room_for_images(torch.device("cuda:0"), 0) == SHARE * 600
