"""A device is made ready beside the reading of images: a stand-in for CUDA, on the CPU."""

import threading

import pytest
import torch

from hpsearch.config import DataConfig
from hpsearch.datasets import device_start, preparing
from hpsearch.datasets.device_start import start_device
from hpsearch.datasets.preparing import prepare

CPU = torch.device("cpu")


@pytest.fixture
def starts(monkeypatch):
    """Says how a CPU is made ready, in a process that has made none ready yet."""
    monkeypatch.setattr(device_start, "_starting", {})
    return lambda start: monkeypatch.setitem(device_start.STARTS, "cpu", start)


def test_it_happens_while_images_are_read_and_is_over_when_they_are_there(starts, monkeypatch):
    reading, ready = threading.Event(), []

    def start(device):
        if reading.wait(60):  # in vain, if images are not read before the device is ready
            ready.append(device)

    def load_train(*arguments):
        reading.set()
        return real(*arguments)

    real = preparing.load_train
    monkeypatch.setattr(preparing, "load_train", load_train)
    starts(start)
    prepare(DataConfig(source="digits"), CPU, torch.float32)
    assert ready == [CPU]


def test_a_device_is_made_ready_once(starts):
    ready = []
    starts(ready.append)
    threads = {start_device(CPU) for _ in range(3)}
    threads.pop().join()
    assert threads == set()
    assert ready == [CPU]


def test_an_error_is_left_to_whoever_needs_the_device(starts, monkeypatch):
    said = []
    monkeypatch.setattr(device_start.log, "info", lambda text, *arguments: said.append(text % arguments))

    def start(device):
        raise RuntimeError("CUDA error: out of memory\nand much more")

    starts(start)
    data = prepare(DataConfig(source="digits"), CPU, torch.float32)  # which this stand-in does not keep from it
    assert data.num_train > 0
    assert said == ["cpu could not be made ready beside the images: CUDA error: out of memory"]


def test_a_cpu_is_ready(monkeypatch):
    monkeypatch.setattr(device_start, "_starting", {})
    assert start_device(CPU) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_multiplies_when_it_is_ready(monkeypatch):
    said = []
    monkeypatch.setattr(device_start, "_starting", {})
    monkeypatch.setattr(device_start.log, "info", lambda *text: said.append(text))
    start_device(torch.device("cuda:0")).join()
    assert torch.cuda.is_initialized()
    assert said == []
