"""Tiny copies of torchvision's archives, and a server on this machine that hands them out."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import scipy.io
from torchvision import datasets

NUM_PER_FILE = 20  # images in each file of the fake archives


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@dataclass
class Server:
    """What the local server answers: `files` by name; names in `cut` get half the body that their header promises."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    served = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            served.requests.append(name)
            if name not in served.files:
                self.send_error(404)
                return
            body = served.files[name]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if name in served.cut else body)

        def log_message(self, *args: object) -> None:
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        thread = threading.Thread(target=http_server.serve_forever, args=(0.01,))
        thread.start()
        served.url = f"http://127.0.0.1:{http_server.server_port}/"
        yield served
        http_server.shutdown()
        thread.join()


def cifar_batch(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (NUM_PER_FILE, 3072), dtype=np.uint8)
    return pickle.dumps({"data": pixels, "labels": [i % 10 for i in range(NUM_PER_FILE)]})


@pytest.fixture
def cifar10(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """torchvision's CIFAR10 pointed at a small archive of the same form on the local server."""
    contents = {f"data_batch_{i}": cifar_batch(i) for i in range(1, 6)}
    contents["test_batch"] = cifar_batch(6)
    contents["batches.meta"] = pickle.dumps({"label_names": [f"class {i}" for i in range(10)]})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    server.files["cifar-10-python.tar.gz"] = buffer.getvalue()
    sums = {name: md5(content) for name, content in contents.items()}
    monkeypatch.setattr(datasets.CIFAR10, "url", server.url + "cifar-10-python.tar.gz")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(buffer.getvalue()))
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [[n, s] for n, s in sums.items() if n.startswith("data")])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    return server


def idx(array: np.ndarray) -> bytes:
    return gzip.compress(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())


@pytest.fixture
def mnist(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """torchvision's MNIST pointed at small files of the same form on the local server."""
    rng = np.random.default_rng(0)
    resources = []
    for split, num in (("train", 50), ("t10k", 20)):
        images = rng.integers(0, 256, (num, 28, 28), dtype=np.uint8)
        labels = (np.arange(num) % 10).astype(np.uint8)
        for name, array in ((f"{split}-images-idx3-ubyte.gz", images), (f"{split}-labels-idx1-ubyte.gz", labels)):
            server.files[name] = idx(array)
            resources.append((name, md5(server.files[name])))
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    monkeypatch.setattr(datasets.MNIST, "mirrors", [server.url])
    return server


@pytest.fixture
def svhn(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """torchvision's SVHN pointed at small files of the same form on the local server."""
    split_list = {}
    for seed, split in enumerate(("train", "test")):
        buffer = io.BytesIO()
        pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3, 30), dtype=np.uint8)
        labels = (np.arange(30) % 10 + 1).astype(np.uint8)[:, None]  # the digit 0 is labelled 10
        scipy.io.savemat(buffer, {"X": pixels, "y": labels})
        name = f"{split}_32x32.mat"
        server.files[name] = buffer.getvalue()
        split_list[split] = [server.url + name, name, md5(buffer.getvalue())]
    monkeypatch.setattr(datasets.SVHN, "split_list", split_list)
    return server
