"""Cross-entropy with smoothing, gamma of the focal loss, and weights of classes: what torch has, and its derivative."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from hpsearch.training.data_loss import DataLoss, balanced_weights

CLASSES = 4


def drawn(seed, num_trials=3, num_images=6, size=3.0):
    generator = torch.Generator().manual_seed(seed)
    logits_KBC = size * torch.randn(num_trials, num_images, CLASSES, generator=generator, dtype=torch.float64)
    return logits_KBC, torch.randint(CLASSES, (num_images,), generator=generator)


shares = st.one_of(st.none(), st.lists(st.floats(0, 0.9), min_size=3, max_size=3))
gammas = st.one_of(st.none(), st.lists(st.floats(0, 5), min_size=3, max_size=3))
weights = st.one_of(st.none(), st.lists(st.floats(0.1, 9), min_size=CLASSES, max_size=CLASSES))


def tensor(values):
    return None if values is None else torch.tensor(values, dtype=torch.float64)


@settings(deadline=None)
@given(st.integers(0, 99), shares, weights)
def test_without_gamma_it_is_torchs(seed, smoothing, class_weights):
    logits_KBC, y_B = drawn(seed)
    found = DataLoss(tensor(smoothing), None, tensor(class_weights))(logits_KBC, y_B)
    expected = [
        torch.nn.functional.cross_entropy(logits_BC, y_B, tensor(class_weights), label_smoothing=epsilon)
        for logits_BC, epsilon in zip(logits_KBC, smoothing or [0.0] * 3, strict=True)
    ]
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-12, atol=1e-12)


@settings(deadline=None)
@given(st.integers(0, 99), shares, gammas, weights, st.sampled_from([0.1, 3.0, 30.0, 300.0]))
def test_the_derivative_by_hand_is_that_of_autograd(seed, smoothing, gamma, class_weights, size):
    """However sure the net is."""
    logits_KBC, y_B = drawn(seed, size=size)
    loss = DataLoss(tensor(smoothing), tensor(gamma), tensor(class_weights))
    leaf = logits_KBC.clone().requires_grad_()
    expected_K = loss(leaf, y_B)
    [derivative] = torch.autograd.grad(expected_K.sum(), [leaf])
    loss_K, delta_KCB = loss.with_derivative(logits_KBC.transpose(1, 2), y_B)
    torch.testing.assert_close(loss_K, expected_K.detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(delta_KCB.transpose(1, 2), derivative, rtol=1e-9, atol=1e-9)
    assert derivative.isfinite().all()
    of_one = [loss.of_slot(slot)(logits_KBC[slot : slot + 1], y_B) for slot in range(3)]
    torch.testing.assert_close(torch.cat(of_one), loss_K, rtol=1e-10, atol=1e-10)


def test_a_gamma_makes_what_is_sure_count_less():
    logits_KBC = torch.tensor([[[4.0, 0, 0, 0], [0.0, 1, 0, 0]]], dtype=torch.float64).expand(2, -1, -1)
    y_B = torch.tensor([0, 0])
    loss = DataLoss(None, tensor([0.0, 2.0]), None)
    _, delta_KCB = loss.with_derivative(logits_KBC.transpose(1, 2), y_B)
    sure, unsure = delta_KCB.abs().sum(1).T
    assert sure[0] / unsure[0] > 5 * sure[1] / unsure[1]


@settings(deadline=None)
@given(st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=50))
def test_balanced_weights_are_those_of_scikit_learn(labels):
    found = balanced_weights(torch.tensor(labels), CLASSES)
    present = np.unique(labels)
    assert found[present].tolist() == pytest.approx(compute_class_weight("balanced", classes=present, y=labels))
    assert found.sum() == pytest.approx(found[present].sum())
