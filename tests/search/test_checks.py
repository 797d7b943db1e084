"""The checks before a search, against images and nets in which something known is wrong."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from hpsearch.analysis import attributes
from hpsearch.config import FloatRange, load_settings
from hpsearch.errors import ConfigError, RefusedError
from hpsearch.search.checks import learning_rate
from hpsearch.search.checks import study as check_study
from hpsearch.search.checks.findings import CheckReport
from hpsearch.search.checks.gate import check_before_search, quick_checks
from hpsearch.search.checks.gates import check_data, check_initial_cost, checked_config
from hpsearch.search.checks.learning_rate import RATES, FirstBatches, rate_finding, try_rates
from hpsearch.search.checks.overfit import check_overfit
from hpsearch.search.checks.study import activation_finding, plan_check, run_check
from hpsearch.search.stage_run import run_stage
from hpsearch.stages.planning import plan_coarse
from hpsearch.storage import find_study, list_studies, read_epochs, read_trials
from hpsearch.training.activations import compare_inits
from hpsearch.training.images import load_images


def synthetic(**keys):
    """The images of the tiny search with some keys of their own."""
    return {"shape": [1, 4, 4], "classes": 3, "train": 90, "test": 9, "noise": 0.5, **keys}


def images(settings):
    return load_images(settings.study, settings.run)


def shuffled(data, seed=0):
    """The same images with labels that say nothing of them."""
    order = torch.randperm(len(data.y_train_N), generator=torch.Generator().manual_seed(seed))
    return replace(data, y_train_N=data.y_train_N[order])


@pytest.fixture
def bytes_file(tmp_path):
    """200 colour images of 10 classes as bytes from 0 to 255."""
    rng = np.random.default_rng(0)
    y = np.arange(200) % 10
    x = np.clip(128 + 40 * rng.normal(size=(10, 8, 8, 3))[y] + 20 * rng.normal(size=(200, 8, 8, 3)), 0, 255)
    np.savez(tmp_path / "bytes.npz", x_train=x.astype(np.uint8), y_train=y)
    return f"npz:{tmp_path}/bytes.npz"


# initial loss


@pytest.mark.parametrize("model", ["linear", "mlp", "lenet", "convnet"])
@pytest.mark.parametrize("init", ["small:0.01", "lecun", "xavier", "he"])
def test_healthy_nets_pass(tiny, bytes_file, model, init):
    settings = tiny(data__source=bytes_file, model__name=model, model__init=init, model__hidden=(50,))
    data = images(settings)
    for seed in range(3):
        config = settings.study.with_params({"train.seed": seed})
        assert [finding.outcome for finding in check_initial_cost(config, data)] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("model", "normalize"),
    [("linear", "none"), ("mlp", "none"), ("mlp", "pixel"), ("lenet", "none"), ("convnet", "pixel")],
)
def test_bytes_from_0_to_255_are_caught(tiny, bytes_file, model, normalize):
    keys = {"data__source": bytes_file, "data__normalize": normalize, "data__scale": 255.0, "model__name": model}
    settings = tiny(**keys, model__hidden=(50,))
    report = quick_checks(settings.study, images(settings))
    assert report["initial loss"].outcome == "failed"
    assert "data.normalize" in report["initial loss"].advice
    with pytest.raises(RefusedError, match=r"the check 'initial loss' failed: .*\n.*data\.normalize.*--skip-checks"):
        report.refuse_if_failed()


def test_bytes_are_fine_with_weights_that_fit_them(tiny, bytes_file):
    settings = tiny(
        data__source=bytes_file,
        data__normalize="pixel",
        data__scale=255.0,
        model__init="small:1e-4",
        model__hidden=(50,),
    )
    report = quick_checks(settings.study, images(settings))
    assert report.ok
    assert report["initial loss"].measured["loss"] == pytest.approx(math.log(10), abs=1e-3)
    assert report["data"].outcome == "note"  # the scale is said, though


def test_the_numbers_of_the_lecture(tiny):
    """A 3072-50-10 net with weights of std 1e-4 begins at 2.303, and at 3.07 with reg 1e3."""
    lecture = synthetic(shape=[3, 32, 32], classes=10)
    settings = tiny(data__synthetic=lecture, model__hidden=(50,), model__init="small:1e-4")
    loss, reg = check_initial_cost(settings.study, images(settings))
    assert loss.text == "initial loss 2.303 (ln 10 = 2.303; allowed 1.15 to 11.5)"
    assert reg.measured["cost"] == pytest.approx(3.07, abs=0.02)


@pytest.mark.parametrize(
    ("loss", "first", "text"),
    [
        ("squared", 1.0, "(1 - 1/3 = 0.667; allowed 0.33 to 193.0)"),
        ("hinge", 2.0, "(3 - 1 = 2.000; allowed 1.00 to 10.0)"),
    ],
)
def test_other_losses_begin_where_scores_of_0_have_them(tiny, loss, first, text):
    settings = tiny(train__loss=loss, model__init="small:1e-4", model__hidden=(50,))
    data = images(settings)
    initial, _ = check_initial_cost(settings.study, data)
    assert initial.outcome == "ok"
    assert initial.measured["loss"] == pytest.approx(first, abs=1e-3)
    assert text in initial.text
    large = replace(data, x_train_NCHW=data.train_images() * 1e12)
    assert check_initial_cost(settings.study, large)[0].outcome == "failed"
    for init in ("he", "xavier"):
        assert check_initial_cost(settings.study.with_params({"model.init": init}), data)[0].outcome == "ok"
    by_heart = check_overfit(settings.study.with_params({"model.init": "he"}), data)
    assert by_heart.outcome == "ok"
    assert by_heart.measured["train_acc"] == 1.0


def test_a_cost_that_is_no_number_fails(tiny):
    settings = tiny()
    data = images(settings)
    loss, _ = check_initial_cost(settings.study, replace(data, x_train_NCHW=data.train_images() * 1e38))
    assert loss.outcome == "failed"
    json.dumps(loss.as_dict(), allow_nan=False)


def test_labels_that_the_net_knows_before_training_fail(tiny):
    settings = tiny(model__name="linear", model__init="small:1.0")
    data = images(settings)
    from hpsearch.models import build, initialize

    net = build(settings.study.model, data.shape, data.num_classes).double()
    initialize(net, "small:1.0", settings.study.train.seed)
    with torch.no_grad():
        labels = net(data.train_images().double()).argmax(1)
    loss, _ = check_initial_cost(settings.study, replace(data, y_train_N=labels))
    assert loss.outcome == "failed"
    assert "labels" in loss.advice


def test_dropout_smoothing_and_the_config_s_own_reg_do_not_count(tiny):
    plain = tiny()
    other = tiny(model__dropout=0.9, train__label_smoothing=0.5, train__l1=1.0, space=["reg=none"])
    data = images(plain)
    assert check_initial_cost(plain.study, data) == check_initial_cost(other.study, data)


# 20 images by heart


def test_a_net_learns_20_images_by_heart_even_with_shuffled_labels(tiny):
    settings = tiny(model__hidden=(50,))
    for data in (images(settings), shuffled(images(settings))):
        finding = check_overfit(settings.study, data)
        assert finding.outcome == "ok"
        assert finding.measured["train_acc"] == 1.0
        assert finding.measured["cost"] < 0.05
        assert finding.measured["curve"][-1][0] == finding.measured["epochs"] < 200
        assert finding.text == f"overfits 20 in {finding.measured['epochs']} epochs"


def test_a_net_with_batch_normalization_need_not_wait_for_its_running_statistics(tiny):
    settings = tiny(model__hidden=(50, 50, 50), model__batch_norm=True)
    finding = check_overfit(settings.study, shuffled(images(settings)))
    assert finding.outcome == "ok"
    assert finding.measured["cost"] < math.log(2) / 20  # no image has a probability below one half
    assert finding.measured["train_acc"] == 1.0
    assert finding.measured["curve"][-1][2] < 1.0  # by the statistics of the first epochs


def test_shuffled_labels_against_a_net_that_is_too_small_are_caught(tiny):
    settings = tiny(data__synthetic=synthetic(shape=[1, 2, 2], classes=2, noise=0.1), model__hidden=(1,))
    data = images(settings)
    assert check_overfit(settings.study, data).outcome == "ok"  # one unit separates the two classes
    report = quick_checks(settings.study, shuffled(data))
    assert [finding.name for finding in report.failed] == ["overfit"]
    assert "capacity" in report["overfit"].advice


def test_a_dead_initialization_is_caught(tiny):
    settings = tiny(model__hidden=(20, 20, 20), model__init="small:1e-12")
    data = images(settings)
    report = quick_checks(settings.study, data)
    assert [finding.name for finding in report.failed] == ["regularization", "overfit"]
    with pytest.raises(RefusedError, match=r"\(overfit failed, too\)"):
        report.refuse_if_failed()
    x_BCHW, _ = data.train_sample(50)
    dead = activation_finding(compare_inits(settings.study.model, 0, x_BCHW, data.num_classes), settings.study)
    assert (dead.outcome, dead.measured["inits"][0]["verdict"]) == ("failed", "dead")
    assert "model.init = he" in dead.advice


def test_images_that_are_all_alike_are_caught(tiny):
    settings = tiny()
    data = images(settings)
    alike = replace(data, x_train_NCHW=torch.ones_like(data.train_images()))
    assert [finding.name for finding in quick_checks(settings.study, alike).failed] == ["data", "overfit"]


def test_inputs_too_large_for_any_rate_are_caught(tiny):
    settings = tiny(model__name="linear", model__init="small:1e-9")
    data = images(settings)
    finding = check_overfit(settings.study, replace(data, x_train_NCHW=data.train_images() * 1e38))
    assert finding.outcome == "failed"
    assert "all 13 rates exploded" in finding.text


def test_augmentation_reg_and_dropout_are_off(tiny):
    settings = tiny(
        data__augment=["hflip", "crop:2"], model__dropout=0.95, model__hidden=(50,), train__l1=10.0, space=["reg=none"]
    )
    heavy = settings.study.with_params({"reg": 1e4})
    assert check_overfit(heavy, images(settings)).outcome == "ok"


# images


def test_the_images_are_counted_and_their_scale_is_said(tiny):
    settings = tiny()
    data = images(settings)
    finding = check_data(data)
    assert finding.outcome == "ok"
    assert finding.measured["images"] == data.num_train == 72
    assert (finding.measured["least"], finding.measured["most"]) == (24, 24)
    assert finding.measured["mean"] == pytest.approx(0, abs=1e-3)
    assert finding.measured["std"] == pytest.approx(1, abs=1e-3)
    far = check_data(replace(data, x_train_NCHW=data.train_images() * 70 + 120))
    assert far.outcome == "note"
    assert "data.normalize" in far.advice
    off_centre = check_data(replace(data, x_train_NCHW=data.train_images() + 3))
    assert "mean" in off_centre.advice


def test_classes_out_of_balance_are_a_note(tiny):
    settings = tiny()
    data = images(settings)
    few = data.y_train_N.clone()
    few[data.y_train_N == 2] = 0
    few[0] = 2
    finding = check_data(replace(data, y_train_N=few))
    assert finding.outcome == "note"
    assert "balanced" in finding.advice


# learning rates


BARELY, SLOWLY, DOWN, OVER, BOOM = "barely moves", "falls slowly", "goes down", "overshoots", "explodes"


def test_rates_are_classed_by_what_they_do(tiny):
    settings = tiny()
    data = images(settings)
    search = try_rates(settings.study, data, initial_loss=1.5)
    verdicts = [trial.verdict for trial in search.trials]
    assert [trial.lr for trial in search.trials] == list(RATES)
    assert verdicts[0] == BARELY
    assert verdicts[-1] == BOOM
    assert verdicts == sorted(verdicts, key=[BARELY, SLOWLY, DOWN, OVER, BOOM].index)
    assert {BARELY, SLOWLY, DOWN, BOOM} <= set(verdicts)
    for trial in search.trials:
        if trial.verdict == BOOM:
            assert trial.explosion.cost > 3 * trial.explosion.first_cost or not math.isfinite(trial.explosion.cost)
        else:
            assert (trial.looks[-1].train_loss < search.needed) == (trial.verdict == DOWN)
    finding = rate_finding(search, settings.study)
    low, high = finding.measured["low"], finding.measured["high"]
    assert low == next(trial.lr for trial in search.trials if trial.verdict == DOWN)
    assert low < high < next(trial.lr for trial in search.trials if trial.verdict == BOOM)


def test_each_rate_makes_a_hundred_steps_on_all_images(tiny):
    data = images(tiny())
    few = FirstBatches.of(data, 2)  # an epoch of 72 images in batches of 20 has 4
    assert few.num_batches(20) == 2
    seen = [list(few.batches(0, epoch, 20)) for epoch in (1, 2)]
    assert [len(batches) for batches in seen] == [2, 2]
    assert not torch.equal(seen[0][0][0], seen[1][0][0])
    many = FirstBatches.of(data, 10)
    firsts, seconds = (list(many.batches(0, epoch, 20)) for epoch in (1, 2))
    assert [len(y_B) for _, y_B in firsts] == [20, 20, 20, 12] * 2 + [20, 20]  # two epochs, and half of a third
    for epoch in (1, 2, 3):
        for mine, whole in zip(firsts[4 * (epoch - 1) :], data.batches(0, epoch, 20), strict=False):
            assert torch.equal(mine[0], whole[0])
    assert torch.equal(seconds[0][0], next(iter(data.batches(0, 4, 20)))[0])
    search = try_rates(tiny().study, data, initial_loss=1.5, steps=100)
    assert {len(trial.looks) for trial in search.trials if trial.verdict == DOWN} == {10}
    assert {look.lr for look in search.trials[0].looks} == {RATES[0]}  # no decay


def test_a_net_thrown_off_by_its_first_steps_overshoots(tiny, monkeypatch):
    """It guesses from then on: ends at ln C, below the initial loss of weights that are not small."""
    monkeypatch.setattr(learning_rate, "RATES", (1.0,))  # with no lower rate that would tell
    wide = synthetic(shape=[3, 8, 8], classes=10, train=300, noise=3.0)
    settings = tiny(data__synthetic=wide, model__hidden=(50, 50))
    data = images(settings)
    initial = check_initial_cost(settings.study, data)[0].measured["loss"]
    [trial] = try_rates(settings.study, data, initial).trials
    assert trial.looks[-1].train_loss < initial - 0.5
    assert trial.looks[-1].train_loss == pytest.approx(math.log(10), rel=0.05)
    assert trial.verdict == OVER


def test_a_rate_that_changes_nothing_is_let_go_at_the_first_look(tiny, monkeypatch):
    monkeypatch.setattr(learning_rate, "RATES", (1e-9, 1e-2))
    settings, told = tiny(), []
    data = images(settings)
    still, moving = try_rates(settings.study, data, initial_loss=2.5, listener=told.append).trials
    assert (still.verdict, moving.verdict) == (BARELY, DOWN)
    assert (len(still.looks), len(moving.looks)) == (1, 10)
    assert told[0] == "learning rates, step 0 of 100, 2 of 2 left"
    assert told[-1] == "learning rates, step 90 of 100, 1 of 2 left"


def test_rates_end_when_their_time_is_over(tiny):
    """After whole looks: by the fourth reading of the clock, at its third look, the time is up."""
    settings, told = tiny(), []
    times = iter(range(99))
    cut = try_rates(
        settings.study, images(settings), initial_loss=1.5, listener=told.append, seconds=2.5, clock=lambda: next(times)
    )
    assert (cut.steps, cut.asked, len(told)) == (30, 100, 3)
    assert {len(trial.looks) for trial in cut.trials if trial.verdict == DOWN} <= {3}
    finding = rate_finding(cut, settings.study)
    assert finding.text.endswith("(there was time for 30 of 100 steps of each)")
    assert finding.measured["asked_steps"] == 100


def test_rates_are_tried_without_a_warm_up(tiny, monkeypatch):
    monkeypatch.setattr(learning_rate, "RATES", (1e-3, 1e-1))
    found = [
        try_rates(settings.study, images(settings), initial_loss=1.5).trials
        for settings in (tiny(), tiny(train__warmup=50))
    ]
    assert found[0] == found[1]


# the config that is checked


def test_values_outside_their_ranges_are_replaced():
    settings = load_settings(
        spaces=[
            "model.hidden=choice([20],[30])",
            "model.dropout=uniform(0.2,0.5)",
            "model.activation=choice(relu,tanh)",
        ]
    )
    config = checked_config(settings.study)
    assert config.model.hidden == (20,)
    assert config.model.dropout == 0.2
    assert config.model.activation == "relu"
    assert config.train == settings.study.train


def test_checks_clip_as_the_study_file_says_or_not_at_all():
    """The lowest norm of a range would make each rate look too low."""
    searched = load_settings(spaces=["clip_norm=log(1e-3,10)"]).study
    assert checked_config(searched).train.clip_norm == 0
    assert checked_config(searched.with_params({"train.clip_norm": 20.0})).train.clip_norm == 20


# the study


def checked(db, settings, **keys):
    return run_check(db, plan_check(settings.study, **keys), images(settings))


def test_a_check_is_kept_as_a_study(db, tiny):
    check = checked(db, tiny())
    study = find_study(db, "check")
    trials = read_trials(db, study)
    assert check.fresh
    assert check.report.ok
    assert study.attrs[attributes.STAGE] == "check"
    assert [trial.params["lr"] for trial in trials] == pytest.approx(list(RATES))
    assert {trial.state for trial in trials} == {"COMPLETE", "PRUNED"}
    kept = check.report["learning rate"].measured["rates"]
    for trial, rate in zip(trials, kept, strict=True):
        assert (trial.state == "PRUNED") == (rate["verdict"] == BOOM)
        if trial.state == "PRUNED":
            assert trial.attrs[attributes.REASON] == attributes.EXPLODED
        else:
            assert trial.value == max(trial.intermediate.values())
            assert len(read_epochs(db, study, [trial.number])[trial.number]) == 10
    assert CheckReport.from_dict(study.attrs[attributes.CHECKS]) == check.report
    assert len(json.dumps(study.attrs[attributes.CHECKS])) < 8000


def test_the_same_check_again_is_read(db, tiny, monkeypatch):
    first = checked(db, tiny())
    monkeypatch.setattr(check_study, "try_rates", None)
    again = checked(db, tiny(coarse__trials=99, space=["lr=log(1e-3,1e-2)"]))  # neither matters to it
    assert not again.fresh
    assert again.report == first.report


def test_the_check_of_another_config_is_refused_with_the_differences(db, tiny):
    checked(db, tiny())
    with pytest.raises(RefusedError, match=r"train\.batch_size: 20 -> 30"):
        checked(db, tiny(train__batch_size=30))
    assert checked(db, tiny(train__batch_size=30), name="other").study.name == "other"


def test_a_check_that_fails_is_not_kept(db, tiny):
    dead = tiny(model__hidden=(20, 20, 20), model__init="small:1e-12")
    check = checked(db, dead)
    assert check.study is None
    assert [finding.name for finding in check.report.failed] == ["regularization", "overfit", "activations"]
    assert check.report["learning rate"].outcome == "note"
    assert list_studies(db) == []
    assert checked(db, tiny()).study is not None  # mended, under the same name


def test_a_check_that_was_killed_while_writing_is_finished(db, tiny, monkeypatch):
    class KilledQueue(check_study.Queue):
        def finish(self, outcomes):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(check_study, "Queue", KilledQueue)
        patched.setattr("hpsearch.storage.workers.os.getpid", lambda: 2**22 + 1)  # a process that is gone
        with pytest.raises(KeyboardInterrupt):
            checked(db, tiny())
    check = checked(db, tiny())
    assert check.fresh
    assert {trial.state for trial in read_trials(db, check.study)} == {"COMPLETE", "PRUNED"}


# coarse


def test_coarse_takes_its_rates_from_a_check(db, tiny):
    settings = tiny()
    check = checked(db, settings)
    found = check.report["learning rate"].measured
    plan = plan_coarse(settings, check=check.study)
    assert plan.config.space["lr"] == FloatRange(found["low"], found["high"], log=True)
    assert plan.config.space["reg"] == settings.study.space["reg"]
    provenance = plan.provenance()
    assert provenance["from"] == "check"
    assert provenance["ranges"][0] == {
        "param": "lr",
        "old": [1e-5, 1.0],
        "new": [found["low"], found["high"]],
        "reason": found["reason"],
    }
    assert provenance["ranges"][1]["reason"] == "given"
    evidence = run_stage(db, plan, settings.run, images=images(settings), checks=False)
    assert all(found["low"] <= trial.params["lr"] <= found["high"] for trial in evidence.trials)
    assert len(run_stage(db, plan, settings.run, images=images(settings), checks=False).trials) == 12  # found again


def test_a_range_given_by_hand_wins_over_the_check(db, tiny):
    check = checked(db, tiny()).study
    given = plan_coarse(tiny(space=["lr=log(1e-4,1e-3)"]), check=check)
    assert given.config.space["lr"] == FloatRange(1e-4, 1e-3, log=True)
    assert "lr" not in plan_coarse(tiny(space=["lr=none"]), check=check).config.space


def test_only_a_check_with_a_range_can_be_taken_from(db, tiny):
    settings = tiny()
    run_stage(db, plan_coarse(settings), settings.run, images=images(settings), checks=False)
    with pytest.raises(ConfigError, match="'coarse' is no check"):
        plan_coarse(settings, "b", find_study(db, "coarse"))
    check = checked(db, settings).study
    plain = check.attrs[attributes.CHECKS]
    findings = [{**each, "measured": {}} if each["name"] == "learning rate" else each for each in plain["findings"]]
    without = replace(check, attrs={**check.attrs, attributes.CHECKS: {**plain, "findings": findings}})
    with pytest.raises(RefusedError, match="no learning rate"):
        plan_coarse(settings, check=without)


def test_only_a_new_coarse_stage_is_checked(db, tiny):
    settings = tiny()
    plan, data = plan_coarse(settings), images(settings)
    assert check_before_search(db, plan, data).ok
    run_stage(db, plan, settings.run, images=data, checks=False)
    assert check_before_search(db, plan, data) is None


def test_the_line_of_a_search(db, tiny):
    settings = tiny()
    text = check_before_search(db, plan_coarse(settings), images(settings)).line()
    pattern = r"initial loss \d\.\d{3} \(ln 3 = 1\.099; allowed 0\.55 to 5\.5\) ok · reg 1e3 -> \S+ ok"
    pattern += r" · overfits 20 in \d+ epochs ok"
    assert re.fullmatch(pattern, text)


def test_overfitting_gives_up_with_a_note_when_its_time_is_over(tiny):
    settings = tiny()
    finding = check_overfit(settings.study, images(settings), seconds=1e-3)
    assert finding.outcome == "note"
    assert "not known" in finding.text


def test_the_check_itself_has_more_time_and_a_limit_too(db, tiny, monkeypatch):
    """The quick form says that `hpsearch check` takes longer: so it does, and tells how far it is."""
    monkeypatch.setattr("hpsearch.search.checks.gate.MAX_SECONDS", 1e-3)
    settings, told = tiny(), []
    quick = check_before_search(db, plan_coarse(settings), images(settings))
    assert quick["overfit"].outcome == "note"
    assert quick["overfit"].advice == "hpsearch check takes up to 120 s for it"
    check = run_check(db, plan_check(settings.study), images(settings), listener=told.append)
    assert check.report["overfit"].outcome == "ok"
    assert any(re.fullmatch(r"20 images by heart, epoch 3 of 200, cost \d\.\d\d", text) for text in told)
    assert "activations" in told
    assert any(text.startswith("learning rates, step 50 of 100") for text in told)
    for module in ("overfit", "study"):
        monkeypatch.setattr(f"hpsearch.search.checks.{module}.CHECK_SECONDS", 1e-3)
    late = run_check(db, plan_check(settings.study, "late"), images(settings)).report["overfit"]
    assert late.outcome == "note"
    assert re.search(r"left out: \d+ epochs, and 9 of 13 rates$", late.text)
    assert "data.size" in late.advice


def test_all_rates_are_tried_only_where_the_first_do_not_learn(tiny):
    settings = tiny()
    assert len(check_overfit(settings.study, images(settings)).measured["rates"]) == 4
    alike = replace(images(settings), x_train_NCHW=torch.ones_like(images(settings).train_images()))
    assert len(check_overfit(settings.study, alike).measured["rates"]) == 13
