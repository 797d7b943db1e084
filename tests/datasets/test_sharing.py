import hashlib
import multiprocessing
import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hpsearch.config import load_settings
from hpsearch.datasets.memory import SharedMemory
from hpsearch.datasets.sharing import SharedImages, share
from hpsearch.training.images import load_images

pytestmark = pytest.mark.skipif(not SharedMemory.possible(), reason="the system has no anonymous files")

CPU = torch.device("cpu")


def seen(data):
    parts = data.train_images(), data.x_val_NCHW[torch.arange(len(data.y_val_N))]
    digests = [hashlib.sha256(part.contiguous().numpy().tobytes()).hexdigest() for part in parts]
    return data.on_disk, data.fingerprint, *digests


def tell(all_shared, sent):
    """What another process sees."""
    sent.send([seen(shared.adopt(CPU)) for shared in all_shared])


def prepared(kind, folder):
    source = "digits"
    if kind != "floats":
        rng = np.random.default_rng(0)
        x = rng.integers(0, 200, (60, 8, 8, 3), dtype=np.uint8)
        np.savez(folder / "images.npz", x_train=x, y_train=np.arange(60) % 3)
        source = f"npz:{folder / 'images.npz'}"
    stored = {"data": {"source": source, "augment": ["hflip"], "normalize": "pixel", "val": 12}}
    settings = load_settings(stored=stored)
    run = settings.run.model_copy(update={"memory": 1} if kind == "on disk" else {})
    return load_images(settings.study, run)


@pytest.fixture(params=["floats", "bytes"])
def images(request, tmp_path):
    return prepared(request.param, tmp_path)


def received(shared):
    """As another process gets it, which maps the memory for itself."""
    make, (_, places, rest) = shared.__reduce__()
    return make(SimpleNamespace(detach=lambda: os.dup(shared._memory.fd)), places, rest).adopt(CPU)


@pytest.mark.parametrize("where", ["in shared memory", "elsewhere"])
def test_everything_comes_back(images, where):
    images = replace(images, notes=("squeezed", "left out"))
    shared = share(images if where == "in shared memory" else replace(images, memory=None))
    found = received(shared)
    for name in ("x_train_NCHW", "y_train_N", "x_val_NCHW", "y_val_N"):
        assert torch.equal(getattr(found, name), getattr(images, name)), name
        assert getattr(found, name).dtype == getattr(images, name).dtype
    assert torch.equal(found.train_images(), images.train_images())
    for name in ("shape", "class_names", "augment", "fingerprint", "notes"):
        assert getattr(found, name) == getattr(images, name), name
    assert np.array_equal(found.normalization.mean, images.normalization.mean)
    assert np.array_equal(found.normalization.std, images.normalization.std)
    assert (found.normalization.factor, found.normalization.from_bytes) == (
        images.normalization.factor,
        images.normalization.from_bytes,
    )


def test_images_on_a_cpu_are_shared_without_a_copy(images):
    for _ in range(2):  # again, for the next stage
        assert share(images)._memory is images.memory
    found = received(share(images))
    images.x_train_NCHW[0, 0, 0, 0] = 217
    assert found.x_train_NCHW[0, 0, 0, 0] == 217


def test_what_a_worker_writes_stays_its_own(images):
    mine, others = (received(share(images)) for _ in range(2))
    mine.x_train_NCHW.zero_()
    assert torch.equal(others.x_train_NCHW, images.x_train_NCHW)


@pytest.mark.slow
def test_another_process_sees_them(tmp_path):
    """Started as workers are, where there is such memory; those on disk are read there from the same file."""
    all_images = [prepared(kind, tmp_path) for kind in ("floats", "bytes", "on disk")]
    context = multiprocessing.get_context("forkserver")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=tell, args=([share(images) for images in all_images], there))
    process.start()
    found = here.recv()
    process.join()
    here.close()
    there.close()
    assert found == [seen(images) for images in all_images]
    assert [on_disk for on_disk, *_ in found] == [False, False, True]
    assert found[1][1:] == found[2][1:]


def test_a_system_without_such_memory_says_so(monkeypatch):
    assert SharedImages.possible()
    monkeypatch.setattr(SharedMemory, "possible", staticmethod(lambda: False))
    assert not SharedImages.possible()


def test_nothing_is_left_open():
    memory = SharedMemory(10)
    fd = memory.fd
    os.fstat(fd)
    del memory
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)
