"""`hpsearch check` of a net that has trained before, head first, and the search that takes both ranges from it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models
from typer.testing import CliRunner

from hpsearch.cli.app import app
from hpsearch.search.checks import body_rate, overfit

NET = ("--data", "folder:photos", "--model", "torchvision:squeezenet1_1", "--set", "model.weights=w.pt")
NET += ("--set", "data.size=32", "--set", "train.batch_size=8")


def run(*words):
    done = CliRunner().invoke(app, words)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def document(*words):
    return json.loads(run(*words, "--json").splitlines()[-1])


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with photos and weights, which is the working folder; fewer rates are tried in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(overfit, "FIRST_RATES", (3e-2,))
    monkeypatch.setattr(body_rate, "tries_within", lambda _seconds, _step, steps: ((1e-2, 1.0), steps))
    random = np.random.default_rng(0)
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(11):
            pixels = (random.integers(0, 120, (32, 32, 3)) + 100 * label).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    torch.manual_seed(0)
    torch.save(models.squeezenet1_1().state_dict(), "w.pt")
    return tmp_path


@pytest.mark.slow  # the whole net trains, in each of the checks
def test_a_search_takes_rates_of_head_and_body_from_a_check(here):
    found = document("check", *NET, "--steps", "12")
    findings = {each["name"]: each for each in found["findings"]}
    assert findings["initial loss"]["text"].endswith("(ln 2 = 0.693: a fresh head; allowed 0.35 to 3.5)")
    assert findings["overfit"]["text"].endswith(", training all of it")
    assert findings["learning rate"]["text"].startswith("lr of the head from ")
    lr, body = findings["learning rate"]["measured"], findings["body rate"]["measured"]
    assert body["lr"] in [rate["lr"] for rate in lr["rates"] if rate["verdict"] == "goes down"]
    assert [rate["body_lr"] for rate in body["rates"]] == [1e-2, 1.0]
    assert body["steps"] == 12
    assert "(in the time: 2 of 9 factors)" in findings["body rate"]["text"]

    shown = run("check", *NET, "--steps", "12")
    assert "lr of the head" in shown
    assert f"a frozen body has {body['frozen']:.3f}" in shown
    plan = {
        each["param"]: each for each in document("coarse", "--from", "check", "--epochs", "1", "--dry-run")["ranges"]
    }
    assert plan["lr"]["new"] == [lr["low"], lr["high"]]
    assert plan["train.body_lr"]["old"] == [1e-3, 1.0]
    assert plan["train.body_lr"]["new"] == [body["low"], body["high"]]
    assert plan["train.body_lr"]["reason"].startswith("beside a frozen body the net does ")
    own = document("coarse", "--from", "check", "--dry-run", "--space", "body_lr=log(0.1,1)")["ranges"]
    assert next(each for each in own if each["param"] == "train.body_lr")["new"] == [0.1, 1.0]
    result = document("coarse", "--from", "check", "--trials", "1", "--epochs", "1", "--skip-checks")
    assert result["states"] == {"COMPLETE": 1}


@pytest.mark.slow  # a whole check, as above
def test_a_net_of_which_only_the_head_trains_has_no_rate_of_the_body(here):
    found = document("check", *NET, "--steps", "12", "--set", "model.freeze=all")
    findings = {each["name"]: each for each in found["findings"]}
    assert "body rate" not in findings
    assert findings["overfit"]["text"].endswith(", training the head on features")
    assert findings["learning rate"]["text"].startswith("lr of the head from ")
    accuracies = findings["neighbours"]["measured"]["accuracies"]
    assert list(accuracies)[-1] == "last"
    assert 1 < len(accuracies) <= 5
    assert accuracies["1"] == 1.0  # dark and light images
    num = findings["data"]["measured"]["images"]
    assert f"by the 5 nearest of {num} images on the features" in findings["neighbours"]["text"]
    few = f"few images ({num // 2} a class, few is below 100); its features tell them apart (neighbours 1.00, "
    assert findings["transfer"]["text"].startswith(few)
    assert findings["transfer"]["outcome"] == "ok"  # only the head trains
    assert {each["param"] for each in document("coarse", "--from", "check", "--dry-run")["ranges"]} == {"lr", "reg"}
