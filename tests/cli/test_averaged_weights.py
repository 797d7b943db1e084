"""train.ema and train.accumulate by the front door: the averages are what counts, and the plain value stands beside."""

import re
from statistics import fmean

import pytest

TINY = """
[data]
source = "synthetic"
synthetic = { shape = [1, 4, 4], classes = 3, train = 90, test = 9, noise = 0.5 }
[model]
hidden = [6]
[train]
batch_size = 20
accumulate = 2
metric = "loss"
[run]
keep = "all"
width = 8
[coarse]
trials = 6
epochs = 2
"""


def test_averages_are_measured_and_kept_and_the_plain_value_is_shown(hpsearch):
    (hpsearch.folder / "tiny.toml").write_text(TINY)
    hpsearch("coarse", "-c", "tiny.toml", "--space", "ema=choice(0,0.9)", "--space", "lr=log(0.05,0.1)")
    trials = [trial for trial in hpsearch.json("export", "coarse")["trials"] if trial["state"] == "COMPLETE"]
    averaged = [trial for trial in trials if trial["params"]["train.ema"]]
    assert 0 < len(averaged) < len(trials)
    for trial in trials:  # of the kept weights
        assert trial["attributes"]["measures"]["loss"] == pytest.approx(trial["value"], rel=1e-5)
        assert ("plain_value" in trial["attributes"]) == (trial in averaged)
    plain = averaged[0]["attributes"]["plain_value"]
    assert plain != pytest.approx(averaged[0]["value"], rel=1e-4)
    assert f", {plain:.4f} without averaging" in hpsearch("trial", "coarse", averaged[0]["number"]).stdout
    refused = hpsearch("coarse", "--set", "train.accumulate=0", "--name", "none", code=2)
    assert "train.accumulate" in refused.stderr


def test_a_training_says_what_averaging_gains_over_the_weights_themselves(hpsearch):
    (hpsearch.folder / "tiny.toml").write_text(TINY)
    averaged = ("train", "-c", "tiny.toml", "--set", "train.ema=0.9", "--seeds", "3", "--epochs", "2")
    said = hpsearch(*averaged).stdout
    document = hpsearch.json(*averaged)
    gain = fmean(run["plain_value"] - run["value"] for run in document["runs"])  # of a loss less is better
    word = "better" if gain > 0 else "worse"
    [found] = re.findall(r"^ema +averaged weights are (.*) than those themselves in the same epoch (.*)$", said, re.M)
    assert found[0] == f"{abs(gain):.4f} {word}"
    assert re.fullmatch(r"\[[+-]\d\.\d+, [+-]\d\.\d+\] over 3 seeds", found[1])
    low, high = document["interval"]
    assert f"{document['mean']:.4f} [{low:.4f}, {high:.4f}], std" in said
    assert (low + high) / 2 == pytest.approx(document["mean"])
