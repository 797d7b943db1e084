"""Heads that are trained again, by `rerun` and `test`: on features of the frozen body, as in the search."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models

from hpsearch.analysis.study_trials import read_study
from hpsearch.config import load_settings
from hpsearch.search import final_measurement, stored_trials
from hpsearch.search import rerun as trained_again
from hpsearch.search.final_measurement import final_test
from hpsearch.search.rerun import rerun
from hpsearch.search.stage_run import run_stage
from hpsearch.stages.planning import plan_coarse
from hpsearch.storage import open_database


@pytest.fixture
def searched(tmp_path, monkeypatch):
    """A folder in which heads were searched, with images flipped: its database and settings."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for label, name in enumerate(("cat", "dog")):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(8):
                pixels = (random.integers(0, 150, (32, 32, 3)) + 50 * label).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    torch.manual_seed(0)
    torch.save(models.shufflenet_v2_x0_5().state_dict(), "w.pt")
    flags = {"data.source": "folder:photos", "model.name": "torchvision:shufflenet_v2_x0_5", "model.weights": "w.pt"}
    flags |= {"model.freeze": "all", "data.size": 32, "data.augment": ["hflip"], "train.batch_size": 8}
    flags |= {"coarse.trials": 1, "coarse.epochs": 2, "train.precision": "float32", "run.device": "cpu"}
    flags |= {"run.threads": 1}  # more of them wait for each other, at such sizes
    settings = load_settings(flags=flags, spaces=["lr=log(1e-3,1e-1)"])
    db = open_database("sqlite:///studies.db", create=True)
    run_stage(db, plan_coarse(settings), settings.run, checks=False)
    return db, settings


@pytest.fixture
def trained_on(monkeypatch):
    """What each training had for images, in order: whether these were features."""
    seen = []

    def watched(config, data, seed, **keys):
        seen.append(data.body is not None)
        return stored_trials.retrain(config, data, seed, **keys)

    for module in (trained_again, final_measurement):
        monkeypatch.setattr(module, "retrain", watched)
    return seen


@pytest.mark.slow  # six trainings behind the body of a net of a library
def test_heads_are_trained_again_on_features_with_the_same_result(searched, trained_on, monkeypatch):
    db, settings = searched
    number = read_study(db, "coarse").best.number
    again = rerun(db, settings.run, "coarse", number, num_seeds=1)
    assert again.comparison.match == "exact"
    assert max(again.comparison.differences.values()) == 0
    calls = [
        lambda: final_test(db, settings.run, "coarse").as_dict(),
        lambda: final_test(db, settings.run, "coarse", train_on_val=True).as_dict(),
    ]
    tested = [call() for call in calls]
    monkeypatch.setattr(final_measurement, "as_trained", lambda _config, data, _run: data)
    behind_the_body = [call() for call in calls]
    assert trained_on == [True] * 3 + [False] * 2
    same = ("scores", "accuracies", "confusion", "measured_epochs", "num_train")
    for own, other in zip(tested, behind_the_body, strict=True):
        assert {key: own[key] for key in same} == {key: other[key] for key in same}
        assert own["measures"] == pytest.approx(other["measures"], rel=1e-4)
        assert (own.get("thresholds") is None) == (other.get("thresholds") is None)
        for one, two in zip(own.get("thresholds") or (), other.get("thresholds") or (), strict=True):
            assert one == two or one == pytest.approx(two, rel=1e-4)
    assert "thresholds" in tested[0]
    assert "thresholds" not in tested[1]
