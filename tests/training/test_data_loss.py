"""Cross-entropy with smoothing, gamma of the focal loss, and weights of classes, and losses of the scores themselves:
what torch has, and its derivative.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch.nn.functional import mse_loss, multi_margin_loss, one_hot

from hpsearch.config.losses import guessing_loss
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
@given(st.integers(0, 99), st.sampled_from([0.0, 0.1, 3.0, 30.0]))
def test_losses_of_scores_are_torchs_times_the_classes(seed, size):
    scores_KBC, y_B = drawn(seed, size=size)
    targets = one_hot(y_B, CLASSES).double()
    squared, hinge = (DataLoss(None, None, None, loss)(scores_KBC, y_B) for loss in ("squared", "hinge"))
    expected = [[CLASSES * mse_loss(own, targets), CLASSES * multi_margin_loss(own, y_B)] for own in scores_KBC]
    torch.testing.assert_close(torch.stack([squared, hinge], 1), tensor(expected), rtol=1e-12, atol=1e-12)
    if size == 0:
        assert hinge.tolist() == [guessing_loss("hinge", CLASSES)] * 3
        assert squared.tolist() == [1.0] * 3
        even = DataLoss(None, None, None, "squared")(scores_KBC + 1 / CLASSES, y_B)
        assert even.tolist() == pytest.approx([guessing_loss("squared", CLASSES)] * 3)


@settings(deadline=None)
@given(st.integers(0, 99), st.sampled_from(["squared", "hinge"]), shares, weights, st.sampled_from([0.1, 3.0, 300.0]))
def test_derivatives_of_losses_of_scores_are_autograds(seed, loss, smoothing, class_weights, size):
    scores_KBC, y_B = drawn(seed, size=size)
    smoothing = smoothing if loss == "squared" else None
    made = DataLoss(tensor(smoothing), None, tensor(class_weights), loss)
    leaf = scores_KBC.clone().requires_grad_()
    expected_K = made(leaf, y_B)
    [derivative] = torch.autograd.grad(expected_K.sum(), [leaf])
    loss_K, delta_KCB = made.with_derivative(scores_KBC.transpose(1, 2).contiguous(), y_B)
    torch.testing.assert_close(loss_K, expected_K.detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(delta_KCB.transpose(1, 2), derivative, rtol=1e-10, atol=1e-10)
    of_one = [made.of_slot(slot)(scores_KBC[slot : slot + 1], y_B) for slot in range(3)]
    torch.testing.assert_close(torch.cat(of_one), loss_K, rtol=1e-10, atol=1e-10)
    weights_B = torch.ones(len(y_B)).double() if class_weights is None else tensor(class_weights)[y_B]
    by_image = torch.stack(
        [DataLoss(tensor(smoothing), None, None, loss)(scores_KBC[:, [b]], y_B[[b]]) for b in range(6)]
    )
    torch.testing.assert_close((by_image.T * weights_B).sum(1) / weights_B.sum(), loss_K, rtol=1e-10, atol=1e-10)


@settings(deadline=None)
@given(st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=50))
def test_balanced_weights_are_those_of_scikit_learn(labels):
    found = balanced_weights(torch.tensor(labels), CLASSES)
    present = np.unique(labels)
    assert found[present].tolist() == pytest.approx(compute_class_weight("balanced", classes=present, y=labels))
    assert found.sum() == pytest.approx(found[present].sum())
