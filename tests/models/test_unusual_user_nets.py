"""What the user's nets may be beside layers in a row: buffers, tied weights, functions of autograd, half precision.

Each trains as an ordinary loop trains it, or is refused by name before the first trial.
"""

import sys

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from hpsearch.config import StudyConfig, usercode
from hpsearch.config.study import validate
from hpsearch.config.usercode import UserCodeError, trust
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.normalization import Normalization
from hpsearch.models import build, build_initialized
from hpsearch.results import TrialSpec
from hpsearch.runtime import step_seed
from hpsearch.training import Pack
from hpsearch.training.user_nets import refuse_user_code

MODULE = """
import torch
from torch import nn


class Base(nn.Module):
    def __init__(self, shape, num_classes):
        super().__init__()
        self.a, self.b = nn.Linear(shape[0] * shape[1] * shape[2], 6), nn.Linear(6, num_classes)

    def hidden(self, x):
        return torch.tanh(self.a(x.flatten(1)))

    def forward(self, x):
        return self.b(self.hidden(x))


class Buffered(Base):
    def __init__(self, *given):
        super().__init__(*given)
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(self, x):
        h = self.hidden(x)
        if self.training:
            with torch.no_grad():
                self.mean.mul_(0.9).add_(0.1 * h.mean(0))
                self.steps.add_(1)
        return self.b(h - self.mean) * (1 + 0.1 * self.steps)


class Tied(Base):
    def __init__(self, *given):
        super().__init__(*given)
        self.c, self.d = nn.Linear(6, 6), nn.Linear(6, 6)
        self.d.weight = self.c.weight

    def forward(self, x):
        return self.b(torch.tanh(self.d(torch.tanh(self.c(self.hidden(x))))))


class Square(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        return 3 * ctx.saved_tensors[0] * grad  # not the derivative, so that it is told from autograd's own


class OldSquare(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        return 3 * ctx.saved_tensors[0] * grad


class Custom(Base):
    def forward(self, x):
        return self.b(Square.apply(self.hidden(x)))


class OldCustom(Base):
    def forward(self, x):
        return self.b(OldSquare.apply(self.hidden(x)))


class Printing(Base):
    def forward(self, x):
        print("images", list(x.shape))
        return super().forward(x)


class HalfInside(Base):
    def forward(self, x):
        h = self.hidden(x).bfloat16()
        return nn.functional.linear(h, self.b.weight.bfloat16(), self.b.bias.bfloat16())


class HalfWeights(Base):
    def __init__(self, *given):
        super().__init__(*given)
        self.bfloat16()

    def forward(self, x):
        return super().forward(x.bfloat16())


class Branching(Base):
    def forward(self, x):
        h = self.hidden(x)
        return self.b(h if h.mean() > 0 else 2 * h)


class Replacing(Base):
    def __init__(self, *given):
        super().__init__(*given)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen = self.seen + 1
        return super().forward(x)


class Keeping(Base):
    def __init__(self, *given):
        super().__init__(*given)
        self.mean = torch.zeros(6)

    def forward(self, x):
        h = self.hidden(x)
        self.mean = 0.9 * self.mean + 0.1 * h.detach().mean(0)
        return self.b(h - self.mean)


class Counting(Base):
    steps = 0

    def forward(self, x):
        self.steps += 1
        return super().forward(x) * self.steps


class Showing(Base):
    def forward(self, x):
        self.last = self.hidden(x)  # for somebody to look at
        return self.b(self.last)


class Several(Base):
    def forward(self, x):
        logits = super().forward(x)
        return (logits, x) if self.training else logits


class Named(Base):
    def forward(self, x):
        return {"logits": super().forward(x)}


class Gradless(Base):
    def forward(self, x):
        with torch.no_grad():
            return super().forward(x)
"""


@pytest.fixture
def nets(tmp_path, monkeypatch):
    (tmp_path / "unusual.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.setattr(usercode, "_trusted", set())
    trust("unusual")
    yield
    sys.modules.pop("unusual", None)


def config(name, precision="float64"):
    train = {"batch_size": 8, "epochs": 2, "precision": precision, "optimizer": "sgd", "lr_decay": 1.0}
    return validate(StudyConfig, {"model": {"name": f"unusual:{name}"}, "train": train})


def images(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(40) % 3
    x = torch.randn(40, 1, 4, 4, generator=generator, dtype=dtype) + y[:, None, None, None]
    normalization = Normalization(np.zeros((1, 1, 1)), np.ones((1, 1, 1)), 1.0, False)
    return TrainingData(x[:30], y[:30], x[30:], y[30:], (1, 4, 4), ("a", "b", "c"), normalization, (), "f")


def plain_losses(given, data, lr):
    """Of each epoch, on the hold-out: an ordinary loop with torch.optim."""
    net = build_initialized(given.model, data.shape, 3, given.train.seed).to(data.x_train_NCHW.dtype)
    optimizer, losses = torch.optim.SGD(net.parameters(), lr), []
    for epoch in (1, 2):
        net.train()
        for step, (x, y) in enumerate(data.batches(given.train.seed, epoch, 8)):
            torch.manual_seed(step_seed(given.train.seed, epoch, step))
            optimizer.zero_grad()
            cross_entropy(net(x).to(x.dtype), y).backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            losses.append(cross_entropy(net(data.x_val_NCHW).to(x.dtype), data.y_val_N).item())
    return losses


def pack_losses(given, data, rates, engine):
    pack = Pack(given, data, [TrialSpec(n, {"lr": lr}) for n, lr in enumerate(rates)], engine=engine)
    assert pack.engine == engine
    losses = {}
    while not pack.done:
        for result in pack.run_epoch().results:
            losses.setdefault(result.number, []).append(result.val_loss)
    return [losses[number] for number in range(len(rates))]


@pytest.mark.parametrize("engine", ["loop", "vmap"])
@pytest.mark.parametrize("name", ["Buffered", "Tied", "Custom", "Printing", "Showing"])
def test_it_trains_as_an_ordinary_loop_trains_it(nets, name, engine):
    data, rates = images(), (0.05, 0.2)
    expected = [plain_losses(config(name), data, lr) for lr in rates]
    assert expected[0][0] > expected[0][1]
    np.testing.assert_allclose(pack_losses(config(name), data, rates, engine), expected, rtol=1e-9)


@pytest.mark.parametrize("name", ["OldCustom", "Branching"])
def test_what_vmap_cannot_take_trains_with_loop_and_vmap_says_why(nets, name):
    data = images()
    expected = [plain_losses(config(name), data, 0.1)]
    np.testing.assert_allclose(pack_losses(config(name), data, [0.1], "loop"), expected, rtol=1e-9)
    with pytest.raises(
        UserCodeError, match=rf"^engine vmap cannot train model unusual:{name}: .*\nAllowed: run.engine = "
    ):
        refuse_user_code(config(name), data, "vmap")
    refuse_user_code(config(name), data, "auto")


@pytest.mark.parametrize("engine", ["loop", "vmap"])
def test_half_precision_inside_is_as_exact_as_it_is_there(nets, engine):
    data = images(torch.float32)
    given = config("HalfInside", "float32")
    expected = plain_losses(given, data, 0.1)
    np.testing.assert_allclose(pack_losses(given, data, [0.1], engine), [expected], rtol=0.02)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("Replacing", r"its net replaces its buffer 'seen' in forward.*\nAllowed: .* self\.seen\.copy_\("),
        ("Keeping", r"its net keeps 'mean' from step to step, which is no buffer.*\nAllowed: self\.register_buffer"),
        ("Counting", r"its net keeps 'steps' from step to step, .*\nAllowed: self\.register_buffer"),
        ("Several", r"its net puts out tuple in training mode\.\nAllowed: a tensor of logits alone"),
        ("Named", r"its net puts out dict in evaluation mode\.\nAllowed: .* under its key"),
        ("Gradless", r"logits of its net have no gradient.*\nAllowed: .*torch\.no_grad"),
        ("HalfWeights", r"its net, whose weights in bfloat16 are trained in float32, raised RuntimeError"),
    ],
)
def test_what_could_not_train_is_refused_by_name(nets, name, match):
    with pytest.raises(UserCodeError, match=rf"^unusual:{name}: (the )?{match}"):
        build(config(name).model, (1, 4, 4), 3)
