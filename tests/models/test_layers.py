import pytest
import torch
from torch.func import vmap

from hpsearch.models import Dropout


def test_drops_the_share_and_keeps_the_mean():
    layer = Dropout(0.3).double()
    x = torch.ones(100_000, dtype=torch.float64)
    y = layer(x)
    assert (y == 0).double().mean().item() == pytest.approx(0.3, abs=0.01)
    assert y.unique().tolist() == pytest.approx([0, 1 / 0.7])


def test_is_the_identity_in_evaluation_and_at_rate_zero():
    x = torch.randn(50)
    assert Dropout(0.9).eval()(x) is x
    assert torch.equal(Dropout(0.0)(x), x)


def test_keeps_the_precision_of_x():
    assert Dropout(0.5)(torch.ones(4)).dtype == torch.float32
    assert Dropout(0.1).double().rate.item() == 0.1


def test_a_rate_per_trial_and_the_same_noise_under_vmap():
    layer, rates, x = Dropout(0.0), torch.tensor([0.2, 0.7]), torch.ones(1000)

    def forward(rate):
        return torch.func.functional_call(layer, {"rate": rate}, (x,))

    torch.manual_seed(0)
    together = vmap(forward, randomness="same")(rates)
    for rate, y in zip(rates, together, strict=True):
        torch.manual_seed(0)
        assert torch.equal(forward(rate), y)
    low, high = together == 0
    assert (high | ~low).all()  # what a low rate drops a higher one drops, too


def test_the_rate_is_no_result_of_training():
    assert not Dropout(0.5).state_dict()
    assert repr(Dropout(0.5)) == "Dropout(rate=0.5)"
