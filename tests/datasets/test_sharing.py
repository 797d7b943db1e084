import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from hpsearch.config import load_settings
from hpsearch.datasets.memory import SharedMemory
from hpsearch.datasets.sharing import adopt, share
from hpsearch.search.images import load_data

pytestmark = pytest.mark.skipif(not SharedMemory.possible(), reason="the system has no anonymous files")

CHILD = """
import sys, torch
from hpsearch.datasets.sharing import adopt
data = adopt(sys.argv[1], torch.device("cpu"))
print(data.fingerprint, data.num_train, float(data.x_train_NCHW.double().sum()))
"""


@pytest.fixture(params=["floats", "bytes"])
def images(request, tmp_path):
    source = "digits"
    if request.param == "bytes":
        rng = np.random.default_rng(0)
        x = rng.integers(0, 200, (60, 8, 8, 3), dtype=np.uint8)
        np.savez(tmp_path / "images.npz", x_train=x, y_train=np.arange(60) % 3)
        source = f"npz:{tmp_path / 'images.npz'}"
    stored = {"data": {"source": source, "augment": ["hflip"], "normalize": "pixel", "val": 12}}
    settings = load_settings(stored=stored)
    return load_data(settings.study, settings.run)


@pytest.mark.parametrize("prepared", ["in shared memory", "elsewhere"])
def test_everything_comes_back(images, prepared):
    images = replace(images, notes=("squeezed", "left out"))
    shared = share(images if prepared == "in shared memory" else replace(images, memory=None))
    found = adopt(shared.path, torch.device("cpu"))
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
    assert share(images) is images.memory
    assert share(images) is images.memory  # again, for the next stage
    found = adopt(images.memory.path, torch.device("cpu"))
    images.x_train_NCHW[0, 0, 0, 0] = 217
    assert found.x_train_NCHW[0, 0, 0, 0] == 217


def test_what_a_worker_writes_stays_its_own(images):
    mine, others = (adopt(share(images).path, torch.device("cpu")) for _ in range(2))
    mine.x_train_NCHW.zero_()
    assert torch.equal(others.x_train_NCHW, images.x_train_NCHW)


def test_another_process_sees_them(images):
    child = [sys.executable, "-c", CHILD, share(images).path]
    out = subprocess.run(child, stdout=subprocess.PIPE, text=True, timeout=600, check=True).stdout
    fingerprint, number, total = out.split()
    assert (fingerprint, int(number)) == (images.fingerprint, images.num_train)
    assert float(total) == pytest.approx(float(images.x_train_NCHW.double().sum()))


def test_nothing_is_left_open():
    memory = SharedMemory(10)
    fd = memory.fd
    os.fstat(fd)
    del memory
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)
