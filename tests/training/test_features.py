"""A frozen body's features, computed once: heads train on them as they train behind the body."""

import dataclasses

import pytest
import torch
from plain_training import make_config, make_data
from torchvision import models

from hpsearch.models import build
from hpsearch.results import TrialSpec
from hpsearch.training import Pack, features
from hpsearch.training.features import may_have_features, why_not, with_features

NAME = "shufflenet_v2_x0_5"
TRIALS = [
    {"lr": 0.1, "reg": 0.01},
    {"lr": 0.03, "model.dropout": 0.3, "train.body_lr": 0.1},
    {"lr": 0.2, "train.label_smoothing": 0.1, "model.init_scale": 2.0},
]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "w.pt"
    torch.save(getattr(models, NAME)().state_dict(), path)
    return str(path)


@pytest.fixture(scope="module")
def images():
    return make_data(num_train=12, num_val=8, shape=(3, 32, 32))


def frozen(weights, augment=(), **values):
    net = {"model__name": f"torchvision:{NAME}", "model__weights": weights, "model__freeze": "all"}
    named = {key.removeprefix("model__"): value for key, value in {**net, **values}.items()}
    config = make_config(2, explosion=1e9)
    model = type(config.model)(**named)
    data = config.data.model_copy(update={"augment": augment})
    return config.model_copy(update={"model": model, "data": data})


def trained(config, data, engine):
    pack = Pack(config, data, [TrialSpec(n, params) for n, params in enumerate(TRIALS)], engine=engine)
    results = [pack.run_epoch().results for _ in range(2)]
    return pack, [result.as_plain() for epoch in results for result in epoch]


@pytest.mark.parametrize(
    ("augment", "hidden", "stages", "num_features"),
    [((), (), "last", 1024), (("hflip",), (6,), "last", 1024), (("hflip",), (), 1, 24)],
)
def test_heads_train_on_features_as_they_do_behind_the_body(
    weights, images, tmp_path, augment, hidden, stages, num_features
):
    config = frozen(weights, augment, hidden=hidden, init="he", features=stages)
    images = dataclasses.replace(images, augment=augment)
    data = with_features(config, images, tmp_path)
    assert data.x_val_NCHW.shape == (8, num_features, 1, 1)
    whole, expected = trained(config, images, "loop")
    heads, found = trained(config, data, "auto")
    assert heads.engine == "fused"
    for own, other in zip(found, expected, strict=True):
        assert own == pytest.approx(other, rel=1e-9, abs=1e-9)
    for number in range(len(TRIALS)):
        own, other = heads.state(number), whole.state(number)
        assert own.keys() == other.keys()
        for name, tensor in own.items():
            torch.testing.assert_close(tensor, other[name], rtol=1e-9, atol=1e-9, msg=name)
    net = build(config.model, data.shape, data.num_classes).double()
    net.load_state_dict(heads.state(0))


def test_the_body_runs_once_and_a_damaged_cache_is_made_anew(weights, images, tmp_path, monkeypatch):
    calls = []
    through = features._through

    def counted(body, images):
        parts = list(images)
        calls.append(sum(map(len, parts)))
        return through(body, iter(parts))

    monkeypatch.setattr(features, "_through", counted)
    config = frozen(weights)
    first = with_features(config, images, tmp_path)
    again = with_features(frozen(weights, hidden=(5,)), images, tmp_path)
    assert calls == [12, 8]
    assert torch.equal(first.x_train_NCHW, again.x_train_NCHW)
    (file,) = tmp_path.glob("features-*.npy")
    content = bytearray(file.read_bytes())
    content[-3] ^= 255
    file.write_bytes(content)
    repaired = with_features(config, images, tmp_path)
    assert calls == [12, 8, 12, 8]
    assert torch.equal(first.x_val_NCHW, repaired.x_val_NCHW)
    moved = dataclasses.replace(images, x_train_NCHW=images.x_train_NCHW + 1)
    with_features(config, moved, tmp_path)
    assert len(calls) == 6
    early = with_features(frozen(weights, features=1), images, tmp_path)  # kept apart
    assert (len(calls), early.body.num_features) == (8, 24)
    with_features(frozen(weights, features=1, hidden=(5,)), images, tmp_path)
    assert torch.equal(with_features(config, images, tmp_path).x_train_NCHW, first.x_train_NCHW)
    assert len(calls) == 8


def test_what_moves_images_anew_trains_through_the_body(weights):
    assert may_have_features(frozen(weights))
    assert may_have_features(frozen(weights, ("hflip",)))
    assert not may_have_features(frozen(weights, freeze=1))
    config = frozen(weights, ("hflip", "crop:4"))
    assert not may_have_features(config)
    assert why_not(config).startswith("data.augment = crop:4 changes each image anew")
    assert why_not(frozen(weights)) is None
