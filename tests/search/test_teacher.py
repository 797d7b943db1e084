"""A teacher by its front door: the folder that was written of it, what it says of images, what a study keeps of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hpsearch.analysis.records import stage_record
from hpsearch.config.usercode import trust
from hpsearch.datasets.stored import StoredImages
from hpsearch.errors import ConfigError, HpsearchError, RefusedError
from hpsearch.search.ensemble import make_ensemble
from hpsearch.search.ensemble_folder import write_ensemble
from hpsearch.search.rerun import rerun
from hpsearch.search.stage_run import run_stage
from hpsearch.search.stored_trials import images_of, stored_trial
from hpsearch.search.trained_ensemble import load_ensemble
from hpsearch.search.trained_net import load_net
from hpsearch.search.weights_folder import write_weights
from hpsearch.stages.planning import plan_coarse
from hpsearch.storage import find_study
from hpsearch.training import teacher as teachers
from hpsearch.training.images import load_images
from hpsearch.training.teacher import Teacher, taught

SPACE = ("lr=log(1e-2,0.3)", "reg=none")
KEYS = {"coarse__trials": 3, "coarse__epochs": 2, "run__keep": "all"}


@pytest.fixture
def search(db, tiny, tmp_path, monkeypatch):
    """A stage in the working folder."""
    monkeypatch.chdir(tmp_path)

    def run(name, space=SPACE, **keys):
        settings = tiny(**{**KEYS, **keys}, space=list(space))
        return settings, run_stage(db, plan_coarse(settings, name), settings.run, checks=False)

    return run


@pytest.fixture
def photographs(tmp_path):
    """Bytes, as files have them."""
    generator = np.random.default_rng(0)
    x, y = generator.integers(0, 256, (90, 3, 4, 4), dtype=np.uint8), np.arange(90) % 3
    x[..., 0] = np.clip(x[..., 0] // 2 + 60 * y[:, None, None], 0, 255)
    np.savez(tmp_path / "x.npz", x_train=x, y_train=y)
    return {"data__source": "npz:x.npz"}


@pytest.mark.parametrize("of", ["floats", "bytes"])
def test_it_says_of_training_images_what_it_says_of_any(db, search, photographs, of):
    """However they are normalized and kept for those that learn: as bytes, as floats, or on disk."""
    keys = photographs if of == "bytes" else {}
    settings, evidence = search("first", data__normalize="feature", data__scale=2.0, **keys)
    search("second", model__name="linear", data__normalize="channel", train__precision="float64", **keys)
    result = make_ensemble(db, settings.run, ["first", "second"], top=1)
    write_ensemble(result, Path("both"))
    write_weights(load_net(evidence, settings.run), Path("one"))
    stored = stored_trial(evidence, evidence.best.number)
    raw_NCHW = images_of(
        replace(stored, config=stored.config.with_params({"data.normalize": "none"})), settings.run
    ).x_train_NCHW
    like = torch.device("cpu")
    for folder, net in {
        "one": load_net(evidence, settings.run),
        "both": load_ensemble(db, "first", settings.run),
    }.items():
        expected = net.classifier(like)(raw_NCHW.numpy())
        for normalize in ("none", "pixel"):
            config = stored.config.with_params({"data.normalize": normalize, "train.precision": "float64"})
            config = config.model_copy(update={"train": config.train.model_copy(update={"teacher": folder})})
            for memory in (None, 1):
                data = load_images(config, settings.run.model_copy(update={"memory": memory}))
                assert isinstance(data.x_train_NCHW, StoredImages) == (memory is not None)
                said = taught(config, data)
                assert torch.equal(said.y_N, data.y_train_N)
                torch.testing.assert_close(said.logq_NC.exp(), expected, rtol=1e-5, atol=1e-6)


def test_it_is_asked_once_and_known_by_what_is_in_its_folder(db, search, monkeypatch):
    settings, evidence = search("teacher")
    write_weights(load_net(evidence, settings.run), Path("net"))
    asked = []
    read = Teacher.read
    monkeypatch.setattr(teachers.Teacher, "read", lambda folder: asked.append(folder) or read(folder))
    space = [*SPACE, "distill=uniform(0,1)", "distill_temperature=log(1,8)"]
    learns = {"train__teacher": "net", "run__width": 1, "run__engine": "loop"}
    settings, learnt = search("pupil", space, **learns)
    assert learnt.num_finished == 3
    assert len(asked) == 1  # for three packs and the checks before
    assert {"train.distill", "train.distill_temperature"} <= set(learnt.best.params)
    record = stage_record(find_study(db, "pupil"))
    assert record.config["train"]["teacher"] == "net"
    assert record.identity["train"]["teacher"].startswith("sha256:")
    assert rerun(db, settings.run, "pupil", learnt.best.number, num_seeds=1).comparison.match == "exact"
    assert "teacher" not in stage_record(find_study(db, "teacher")).config["train"]
    # The same folder with another net is another study's teacher.
    worse = min((t for t in evidence.trials if t.value is not None), key=lambda t: t.value)
    write_weights(load_net(evidence, settings.run, worse.number), Path("net"))
    with pytest.raises(RefusedError, match="net does not hold the teacher that 'pupil' was trained with") as told:
        rerun(db, settings.run, "pupil", learnt.best.number, num_seeds=1)
    assert str(told.value).count("sha256:") == 2
    with pytest.raises(RefusedError, match=r"train.teacher"):
        search("pupil", space, **learns)
    write_weights(load_net(evidence, settings.run), Path("net"))
    rerun(db, settings.run, "pupil", learnt.best.number, num_seeds=1)


def test_what_is_no_teacher_of_these_images_is_refused_before_anything_is_written(db, search, tmp_path):
    settings, evidence = search("teacher")
    write_weights(load_net(evidence, settings.run), Path("net"))
    cases = [
        (
            {"train__distill": 0.5},
            r"train.distill = 0.5 is the share of a teacher in the loss, and there is none.\nAllowed",
        ),
        ({"train__teacher": "nowhere"}, r"train.teacher = 'nowhere' has neither model.toml nor ensemble.toml: /"),
        (
            {"train__teacher": "net", "data__synthetic__shape": [1, 5, 5]},
            r"train.teacher = 'net' was made for images \(1, 4, 4\), these are \(1, 5, 5\)",
        ),
        (
            {"train__teacher": "net", "data__synthetic__classes": 4},
            r"was made for classes \(0, 1, 2\), these are \(0, 1, 2, 3\).\nAllowed: a teacher of the same images",
        ),
        ({"train__distill": 1.5, "train__teacher": "net"}, r"train.distill"),
    ]
    for keys, said in cases:
        with pytest.raises(ConfigError, match=said):
            search("pupil", **keys)
    for range_ in ("uniform(0,1)", "choice(0,0.5)"):
        with pytest.raises(ConfigError, match="is the share of a teacher in the loss, and there is none"):
            search("pupil", [*SPACE, f"distill={range_}"])
    Path("net", "ensemble.toml").write_text("")
    with pytest.raises(ConfigError, match=r"has both model.toml and ensemble.toml"):
        search("pupil", train__teacher="net")
    Path("net", "ensemble.toml").unlink()
    Path("net", "weights.safetensors").write_bytes(b"broken")
    with pytest.raises(ConfigError, match=r"train.teacher = 'net' cannot be used"):
        search("pupil", train__teacher="net")
    Path("net", "weights.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"train.teacher = 'net' is not whole"):
        search("pupil", train__teacher="net")
    with pytest.raises(HpsearchError):
        find_study(db, "pupil")


def test_a_net_of_other_peoples_code_is_not_imported_unasked(db, search, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    Path(tmp_path, "ourteacher.py").write_text(
        "from torch import nn\n\n\ndef net(shape, num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(16, num_classes))\n"
    )
    trust("ourteacher")
    settings, evidence = search("teacher", model__name="ourteacher:net")
    write_weights(load_net(evidence, settings.run), Path("net"))
    _, learnt = search("pupil", train__teacher="net", train__distill=0.5)
    assert learnt.num_finished == 3
    monkeypatch.setattr("hpsearch.config.usercode._trusted", set())
    with pytest.raises(RefusedError, match="needs the code ourteacher:net, which you have not named"):
        Teacher.read("net")
