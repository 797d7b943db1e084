import subprocess
import sys

import numpy as np
import pytest
import torch

from hpsearch.config import load_settings
from hpsearch.datasets.sharing import SharedImages, adopt
from hpsearch.search.images import load_data

pytestmark = pytest.mark.skipif(not SharedImages.possible(), reason="the system has no anonymous files")

CHILD = """
import os, sys, torch
from hpsearch.datasets.sharing import adopt
sys.stdin.readline()
data = adopt(int(sys.argv[1]), torch.device("cpu"))
print(data.fingerprint, data.num_train, float(data.x_train_NCHW.double().sum()))
"""


@pytest.fixture
def images():
    settings = load_settings(stored={"data": {"source": "digits", "augment": ["hflip"], "normalize": "pixel"}})
    return load_data(settings.study, settings.run)


def test_everything_comes_back(images):
    shared = SharedImages(images)
    shared.write()
    found = adopt(shared.fd, torch.device("cpu"))
    shared.close()
    for name in ("x_train_NCHW", "y_train_N", "x_val_NCHW", "y_val_N"):
        assert torch.equal(getattr(found, name), getattr(images, name)), name
        assert getattr(found, name).dtype == getattr(images, name).dtype
    for name in ("shape", "class_names", "augment", "fingerprint"):
        assert getattr(found, name) == getattr(images, name), name
    assert np.array_equal(found.normalization.mean, images.normalization.mean)
    assert np.array_equal(found.normalization.std, images.normalization.std)
    assert (found.normalization.factor, found.normalization.from_bytes) == (
        images.normalization.factor,
        images.normalization.from_bytes,
    )


def test_what_one_process_writes_stays_its_own(images):
    shared = SharedImages(images)
    shared.write()
    mine, others = (adopt(shared.fd, torch.device("cpu")) for _ in range(2))
    shared.close()
    mine.x_train_NCHW.zero_()
    assert torch.equal(others.x_train_NCHW, images.x_train_NCHW)


def test_a_child_started_before_the_images_are_there_sees_them(images):
    shared = SharedImages(images)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(shared.fd)],
        pass_fds=[shared.fd],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    shared.write()
    shared.close()
    out, _ = child.communicate("go\n", timeout=60)
    fingerprint, number, total = out.split()
    assert (fingerprint, int(number)) == (images.fingerprint, images.num_train)
    assert float(total) == pytest.approx(float(images.x_train_NCHW.double().sum()))
