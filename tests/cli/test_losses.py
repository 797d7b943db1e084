"""train.loss by the front door: searched, judged by what it makes small, and what is said of softmax of its scores."""

import json

import numpy as np
import pytest

TINY = ("-c", "tiny.toml", "--trials", 3, "--skip-checks", "--space", "lr=log(1e-3,1e-2)")


@pytest.fixture(scope="module")
def by_hinge(tmp_path_factory, command_line, tiny_study):
    line = command_line(tmp_path_factory.mktemp("hinge"))
    (line.folder / "tiny.toml").write_text(tiny_study)
    line("coarse", *TINY, "--set", "train.loss=hinge", "--set", "train.metric=loss", "--name", "margins", "--epochs", 8)
    return line


def test_a_search_by_the_hinge_loss_is_tested_by_it(by_hinge):
    best = by_hinge.json("best", "margins")
    assert best["value"] == pytest.approx(best["measures"]["loss"])
    assert best["value"] < 2  # C - 1: a guess
    tested = by_hinge.json("test", "margins")
    assert tested["metric"] == "loss"
    assert tested["measures"]["loss"] == pytest.approx(tested["scores"][0])
    assert 0 < tested["measures"]["loss"] < 4
    refused = by_hinge("test", "margins", "--views", "flip", code=2).stderr
    assert "train.loss = 'hinge' is none" in refused


def test_predictions_say_that_softmax_of_margins_is_no_probability(by_hinge):
    x_NCHW = np.random.default_rng(0).normal(size=(4, 1, 4, 4))
    np.savez(by_hinge.folder / "new.npz", x=x_NCHW)
    said = by_hinge("predict", "margins", "new.npz", "--top", 3, "--json")
    assert "note: trained with train.loss = hinge: the probabilities are softmax of its scores" in said.stderr
    shown = json.loads(said.stdout)
    assert shown["losses"] == ["hinge"]
    assert len(shown["predictions"]) == 4


def test_losses_are_searched_and_not_compared_by_themselves(by_hinge):
    space = ("--space", 'train.loss=choice("squared", "hinge")', "--space", "train.label_smoothing=uniform(0.1, 0.2)")
    refused = by_hinge("coarse", *TINY, *space, "--set", "train.metric=loss", "--name", "both", code=2).stderr
    assert refused.startswith("error: train.metric = 'loss' compares no losses of different kinds")
    by_hinge("coarse", *TINY, *space, "--trials", 8, "--name", "both")
    trials = by_hinge.json("export", "both")["trials"]
    losses = [trial["params"]["train.loss"] for trial in trials]
    assert {*losses} == {"squared", "hinge"}
    for trial, loss in zip(trials, losses, strict=True):
        assert ("train.label_smoothing" in trial["params"]) == (loss == "squared")
