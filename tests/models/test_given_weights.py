"""Weights of a training before: from the library, over HTTP, and from a file; whatever does not fit is named."""

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from hpsearch.config import ModelConfig
from hpsearch.errors import ConfigError
from hpsearch.models import build_initialized
from hpsearch.models.given_weights import read_weights

NAME = "shufflenet_v2_x0_5"


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(7)
    return getattr(models, NAME)(num_classes=5).state_dict()


def built(**values):
    channels = values.pop("channels", 3)
    return build_initialized(ModelConfig(name=f"torchvision:{NAME}", **values), (channels, 32, 32), 4, 0)


def expect(net, state):
    for name, tensor in net.state_dict().items():
        if not name.startswith("fc."):
            torch.testing.assert_close(tensor, state[name].to(tensor.dtype), rtol=0, atol=0)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """torchvision's weights, offered by a server of ours: (folder that it serves, prefix of its addresses)."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path / "hub"))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            yield folder, f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def offer(monkeypatch, url):
    weights = models.get_model_weights(NAME).DEFAULT
    monkeypatch.setattr(type(weights), "url", url)
    monkeypatch.setattr("hpsearch.models.given_weights.torchvision_weights", lambda _: weights)


def test_the_librarys_own_are_downloaded_and_checked(served, state, monkeypatch):
    folder, address = served
    torch.save(state, folder / "x.pth")
    digest = hashlib.sha256((folder / "x.pth").read_bytes()).hexdigest()[:8]
    (folder / "x.pth").rename(folder / f"x-{digest}.pth")
    (folder / "x-00000000.pth").write_bytes((folder / f"x-{digest}.pth").read_bytes())
    offer(monkeypatch, f"{address}/x-{digest}.pth")
    expect(built(pretrained=True), state)
    offer(monkeypatch, f"{address}/x-00000000.pth")
    with pytest.raises(ConfigError, match=r"(?s)x-00000000\.pth|cannot be fetched: invalid hash"):
        built(pretrained=True)


def test_without_a_network_the_address_and_the_way_out_are_said(served, monkeypatch):
    _, address = served
    offer(monkeypatch, f"{address}/none-12345678.pth")
    with pytest.raises(ConfigError) as caught:
        built(pretrained=True)
    first, second = str(caught.value).splitlines()
    assert "cannot be fetched: HTTP Error 404" in first
    assert "model.weights = 'FILE'" in second
    assert "checkpoints" in second
    assert caught.value.__cause__.closed  # or the connection would stay open until it is collected


def test_files_of_all_kinds_are_read_and_what_is_around_them_is_said(tmp_path, state, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file(state, "a.safetensors")
    save_file({**{f"weights/{name}": tensor for name, tensor in state.items()}, "portrait/filters": torch.ones(2)}, "b")
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, "c.pt")
    for file in ("a.safetensors", "b", "c.pt"):
        expect(built(weights=file), state)
    assert read_weights("a.safetensors").notes == ()
    assert read_weights("c.pt").notes == (
        "c.pt: its weights are those under 'state_dict'",
        "c.pt: 'module.' before every name is left out",
    )


def test_gray_images_take_the_weights_of_colour(tmp_path, state):
    torch.save(state, tmp_path / "w.pt")
    net = built(weights=str(tmp_path / "w.pt"), channels=1)
    torch.testing.assert_close(net.conv1[0].weight.float(), state["conv1.0.weight"].sum(1, keepdim=True))
    torch.save(net.state_dict(), tmp_path / "gray.pt")
    expect(built(weights=str(tmp_path / "gray.pt"), channels=1), net.state_dict())


class Evil:
    def __reduce__(self):
        return (print, ("run",))


def without(state, name):
    return {key: tensor for key, tensor in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda state: without(state, "conv5.0.weight"),
            r"does not fit this net: conv5\.0\.weight is missing\.\nAllowed",
        ),
        (lambda state: {**state, "more": torch.ones(1)}, "more is unexpected"),
        (lambda state: {**state, "conv5.0.weight": torch.ones(2, 3)}, r"conv5\.0\.weight is \[2, 3\], not \[1024, 192"),
        (lambda state: models.resnet18().state_dict(), r"is missing; .*, and \d+ more"),
        (lambda state: {"w": Evil()}, "holds more than tensors"),
        (lambda state: [1, 2], "holds no tensors by name"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, state, change, match, capsys):
    torch.save(change(state), tmp_path / "w.pt")
    with pytest.raises(ConfigError, match=match):
        built(weights=str(tmp_path / "w.pt"))
    assert capsys.readouterr().out == ""


def test_other_classes_are_no_mismatch(tmp_path, state):
    torch.save(without(without(state, "fc.weight"), "fc.bias"), tmp_path / "w.pt")
    expect(built(weights=str(tmp_path / "w.pt")), state)


def test_a_file_that_is_not_there_or_is_none_of_weights(tmp_path):
    with pytest.raises(ConfigError, match=r"w\.pt' is not a file: looked for .*\nAllowed"):
        built(weights=str(tmp_path / "w.pt"))
    (tmp_path / "w.pt").write_text("hello")
    with pytest.raises(ConfigError, match=r"cannot be read: .*\nAllowed: safetensors"):
        built(weights=str(tmp_path / "w.pt"))


def test_there_is_one_beginning():
    with pytest.raises(ConfigError, match=r"name two beginnings\.\nAllowed: one of them"):
        ModelConfig(name=f"torchvision:{NAME}", pretrained=True, weights="w.pt")
