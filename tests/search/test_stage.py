"""A stage from plan to results, with real training on small synthetic images and a real SQLite database."""

import math
import re
import tomllib
from dataclasses import replace

import numpy as np
import optuna
import pytest
import torch

from hpsearch.analysis import attributes
from hpsearch.analysis.export import best_study_file
from hpsearch.analysis.study_trials import read_study
from hpsearch.analysis.summary import stage_summary
from hpsearch.cli.output import print_stage
from hpsearch.config import FloatRange, fingerprint, load_settings
from hpsearch.errors import ConfigError, HpsearchError, RefusedError
from hpsearch.search.listener import SearchListener
from hpsearch.search.stage_run import preview_stage, run_stage
from hpsearch.stages.fine_planning import plan_fine
from hpsearch.stages.opening import find_stage, keep_stored_ranges, open_stage
from hpsearch.stages.planning import plan_coarse
from hpsearch.storage import find_study, list_studies, read_epochs, read_trials, write_attrs
from hpsearch.training import Pack
from hpsearch.training.images import load_images
from hpsearch.training.precision import rounding
from hpsearch.worker.worker import Worker


def run(db, plan, settings, listener=None):
    return run_stage(db, plan, settings.run, listener=listener, checks=False)


class Recorder(SearchListener):
    def __init__(self):
        self.events = []

    def trial_finished(self, event):
        self.events.append(event)


def test_a_stage_spends_its_budget_exactly(db, tiny):
    settings, recorder = tiny(), Recorder()
    evidence = run(db, plan_coarse(settings), settings, recorder)
    assert [trial.number for trial in evidence.trials] == list(range(12))
    assert {trial.state for trial in evidence.trials} <= {"COMPLETE", "PRUNED"}
    assert sorted(event.number for event in recorder.events) == list(range(12))
    assert [event.num_finished for event in recorder.events] == list(range(1, 13))
    for trial in evidence.trials:
        if trial.state == "COMPLETE":
            assert trial.value == max(trial.intermediate.values())
            assert list(trial.intermediate) == [1, 2]
            assert trial.attrs[attributes.LAST_VALUE] == trial.intermediate[2]
            assert trial.intermediate[trial.attrs[attributes.BEST_EPOCH]] == trial.value
    curves = read_epochs(db, evidence.study)
    best = evidence.best
    assert best is not None
    assert [point.val_acc for point in curves[best.number]] == list(best.intermediate.values())


def test_the_same_plan_again_does_nothing_more(db, tiny):
    settings, recorder = tiny(), Recorder()
    first = run(db, plan_coarse(settings), settings)
    again = run(db, plan_coarse(settings), settings, recorder)
    assert again.trials == first.trials
    assert recorder.events == []


def test_another_search_under_the_same_name_is_refused_with_the_differences(db, tiny):
    settings = tiny()
    run(db, plan_coarse(settings), settings)
    other = tiny(train__batch_size=30, space=["lr=log(1e-3,1e-1)"])
    with pytest.raises(RefusedError) as caught:
        run(db, plan_coarse(other), other)
    assert "train.batch_size: 20 -> 30" in str(caught.value)
    assert "space.lr.log" in str(caught.value)
    assert "--name" in str(caught.value)


def test_other_images_under_the_same_name_are_refused(db, tiny, tmp_path):
    def save(seed):
        rng = np.random.default_rng(seed)
        np.savez(tmp_path / "x.npz", x_train=rng.random((60, 16)), y_train=np.arange(60) % 3)

    settings = tiny(data__source=f"npz:{tmp_path}/x.npz")
    save(0)
    run(db, plan_coarse(settings), settings)
    save(1)
    with pytest.raises(RefusedError, match="images:"):
        run(db, plan_coarse(settings), settings)


def test_a_study_of_another_program_is_not_taken_over(db, tiny):
    optuna.create_study(study_name="coarse", storage=db.optuna_storage())
    settings = tiny()
    with pytest.raises(RefusedError, match="not made by hpsearch"):
        run(db, plan_coarse(settings), settings)


def test_interrupted_work_goes_back_to_the_queue_and_is_finished_with_the_same_numbers(db, tiny, tmp_path):
    from hpsearch.storage import open_database

    settings = tiny(run__width=4)

    class Interrupting(SearchListener):
        num_epochs = 0

        def epoch_finished(self, num_trials):
            self.num_epochs += 1
            if self.num_epochs == 3:  # in the middle of the second pack
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(db, plan_coarse(settings), settings, Interrupting())
    states = [trial.state for trial in read_trials(db, find_study(db, "coarse"))]
    assert states.count("WAITING") == 8
    assert "RUNNING" not in states
    resumed = run(db, plan_coarse(settings), settings)

    other = open_database(f"sqlite:///{tmp_path}/other.db", create=True)
    whole = run(other, plan_coarse(settings), settings)
    assert [trial.value for trial in resumed.trials] == [trial.value for trial in whole.trials]
    assert [trial.params for trial in resumed.trials] == [trial.params for trial in whole.trials]


def test_explosions_end_pruned_with_reason_epoch_and_step(db, tiny):
    settings = tiny(coarse__trials=8, space=["lr=log(1e6,1e8)", "reg=none"])
    evidence = run(db, plan_coarse(settings), settings)
    for trial in evidence.trials:
        assert trial.state == "PRUNED"
        assert trial.attrs[attributes.REASON] == "exploded"
        assert trial.attrs[attributes.EPOCH] == 1
        assert 1 <= trial.attrs[attributes.STEP] <= 4
        assert float(trial.attrs[attributes.FIRST_COST]) >= math.log(3)
        assert trial.value == 0.0
    assert evidence.num_exploded == 8
    assert evidence.best is None
    with pytest.raises(RefusedError, match="8 of 8 exploded"):
        plan_fine(evidence, settings)


def test_the_planted_step_of_an_explosion_is_the_one_recorded(db, tiny):
    """The first cost above three times the first one (at least ln C) of a plain loop over the same batches."""

    from hpsearch.models import build, initialize

    settings = tiny(coarse__trials=1, space=["lr=log(2e2,2.0001e2)", "reg=none"], train__optimizer="sgd")
    plan = plan_coarse(settings)
    data = load_images(plan.trial_config, settings.run)
    trial = run_stage(db, plan, settings.run, images=data, checks=False).trials[0]

    config = plan.trial_config.with_params(trial.params)
    net = build(config.model, data.shape, data.num_classes).double()
    initialize(net, config.model.init, config.train.seed)
    net = net.float()
    optimizer = torch.optim.SGD(net.parameters(), lr=config.train.lr)
    first, planted = None, None
    for step, (x, y) in enumerate(data.batches(config.train.seed, 1, config.train.batch_size)):
        loss = torch.nn.functional.cross_entropy(net(x), y)
        first = max(loss.item(), math.log(3)) if first is None else first
        if loss.item() > 3 * first or not math.isfinite(loss.item()):
            planted = step
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert planted is not None
    assert trial.attrs[attributes.STEP] == planted


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp", "cmaes", "qmc", "grid"])
def test_every_sampler_runs_a_whole_stage(db, tiny, sampler):
    settings = tiny(coarse__sampler=sampler, coarse__trials=9)
    evidence = run(db, plan_coarse(settings), settings)
    assert len(evidence.trials) == 9
    assert {trial.state for trial in evidence.trials} <= {"COMPLETE", "PRUNED"}
    assert all(trial.params.keys() == {"lr", "reg"} for trial in evidence.trials)


def test_a_pruner_stops_trials_at_epoch_ends(db, tiny):
    settings = tiny(
        coarse__trials=16, coarse__epochs=4, coarse__pruner="median", coarse__pruner_options={"n_startup_trials": 4}
    )
    evidence = run(db, plan_coarse(settings), settings)
    stopped = [trial for trial in evidence.trials if trial.attrs.get(attributes.REASON) == "median"]
    assert stopped
    for trial in stopped:
        assert trial.state == "PRUNED"
        assert trial.attrs[attributes.EPOCH] == max(trial.intermediate) < 4
        assert trial.value == max(trial.intermediate.values()) < evidence.best.value
        assert trial.attrs[attributes.LAST_VALUE] == trial.intermediate[max(trial.intermediate)]


def test_structural_hyperparameters_train_in_packs_of_their_own(db, tiny):
    settings = tiny(
        space=["model.hidden=choice([4],[6,5])", "data.normalize=choice(none,channel)", "batch_size=int(10,11)"],
        coarse__trials=10,
    )
    evidence = run(db, plan_coarse(settings), settings)
    assert {trial.state for trial in evidence.trials} <= {"COMPLETE", "PRUNED"}
    assert {trial.params["model.hidden"] for trial in evidence.trials} == {(4,), (6, 5)}


def test_trials_of_another_normalization_train_on_those_images(db, tiny, monkeypatch):
    seen = {}
    original = Pack.__init__

    def spy(self, config, data, specs, **options):
        seen[config.data.normalize] = float(data.train_images().mean())
        original(self, config, data, specs, **options)

    monkeypatch.setattr(Pack, "__init__", spy)
    settings = tiny(space=["data.normalize=choice(none,channel)"], coarse__trials=6, data__scale=1.0)
    run(db, plan_coarse(settings), settings)
    assert seen.keys() == {"none", "channel"}
    assert abs(seen["channel"]) < 1e-5
    assert abs(seen["none"] - seen["channel"]) > 1e-3


def test_fine_narrows_trains_longer_and_keeps_its_provenance(db, tiny):
    settings = tiny(coarse__trials=20)
    run(db, plan_coarse(settings), settings)
    plan = plan_fine(read_study(db, "coarse"), settings)
    evidence = run(db, plan, settings)
    assert evidence.study.name == "fine"
    assert evidence.study.attrs[attributes.PROVENANCE] == plan.provenance()
    assert evidence.study.attrs[attributes.PROVENANCE]["from"] == "coarse"
    low, high = plan.config.space["lr"].low, plan.config.space["lr"].high
    assert all(low <= trial.params["lr"] <= high for trial in evidence.trials)
    complete = [trial for trial in evidence.trials if trial.state == "COMPLETE"]
    assert all(len(trial.intermediate) == 3 for trial in complete)
    assert plan_fine(evidence, settings).name == "fine-2"


def test_a_fine_stage_keeps_its_ranges_when_its_source_goes_on(db, tiny):
    settings = tiny(run__width=4, coarse__trials=16)

    class Once(SearchListener):
        epochs = 0

        def epoch_finished(self, num_trials):
            self.epochs += 1
            if self.epochs == 3:  # in the second of four packs
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(db, plan_coarse(settings), settings, Once())
    first = plan_fine(read_study(db, "coarse"), settings)
    run(db, first, settings)
    run(db, plan_coarse(settings), settings)
    fresh = plan_fine(read_study(db, "coarse"), settings)
    assert fresh.config.space != first.config.space
    kept, moved = keep_stored_ranges(db, fresh, frozenset())
    assert kept.config.space == first.config.space
    assert moved
    assert run(db, kept, settings).num_finished == 6  # resumed, not refused


def test_a_stage_that_was_begun_with_a_parameter_that_nothing_uses_goes_on(db, tiny):
    settings = tiny()

    def with_beta2(plan):
        space = {**plan.config.space, "train.beta2": FloatRange(0.5, 0.9)}
        return replace(plan, config=plan.config.model_copy(update={"space": space}))

    coarse = run(db, with_beta2(plan_coarse(settings)), settings)
    assert len(stage_summary(coarse).verdicts) == 3
    best = best_study_file(coarse)
    assert (
        "# Not in [space]: train.beta2 is not used by momentum; adam, adamw, nadam, rmsprop and lion use it.\n" in best
    )
    assert set(load_settings(document=tomllib.loads(best)).study.space) == {"lr", "reg"}
    settings = load_settings(stored=coarse.record.config, flags={"run.device": "cpu", "run.threads": 1})
    fresh = plan_fine(coarse, settings)
    assert set(fresh.config.space) == {"lr", "reg"}
    data = load_images(fresh.trial_config, settings.run)
    begun = open_stage(db, with_beta2(fresh), data)
    kept, _ = keep_stored_ranges(db, fresh, frozenset())
    assert find_stage(db, kept, data) == begun


def test_a_path_that_was_stored_in_another_spelling_is_the_same_search(db, tiny, tmp_path):
    """As searches of before a source had one spelling have it."""
    np.savez(tmp_path / "x.npz", x_train=np.random.default_rng(0).random((60, 16)), y_train=np.arange(60) % 3)
    settings = tiny(data__source="npz:x.npz")
    plan = plan_coarse(settings)
    data = load_images(plan.trial_config, settings.run)
    study = open_stage(db, plan, data)
    identity = study.attrs[attributes.IDENTITY]
    old = {**identity, "data": {**identity["data"], "source": "npz:./x.npz"}}
    write_attrs(db, study, {attributes.IDENTITY: old, attributes.FINGERPRINT: fingerprint(old)})
    assert find_stage(db, plan, data).name == "coarse"
    other = {**old, "data": {**old["data"], "source": "npz:./y.npz"}}
    write_attrs(db, study, {attributes.IDENTITY: other, attributes.FINGERPRINT: fingerprint(other)})
    with pytest.raises(RefusedError, match=r"data\.source"):
        find_stage(db, plan, data)


def test_a_foreign_study_that_minimizes_can_be_narrowed_and_searched_on(db, tiny):
    study = optuna.create_study(study_name="theirs", storage=db.optuna_storage(), direction="minimize")
    study.optimize(lambda trial: (math.log10(trial.suggest_float("lr", 1e-6, 1.0, log=True)) + 2) ** 2, n_trials=20)
    settings = tiny()
    evidence = read_study(db, "theirs")
    assert evidence.best is not None
    assert evidence.best.value == study.best_value
    plan = plan_fine(evidence, settings)
    assert plan.config.space["lr"].low < study.best_params["lr"] < plan.config.space["lr"].high
    assert plan.config.space["lr"].high < 1.0
    assert len(run(db, plan, settings).trials) == 6


def test_a_net_that_does_not_fit_the_images_is_refused_before_anything_is_written(db, tiny):
    settings = tiny(model__name="convnet", model__channels=[4, 4, 4, 4])
    with pytest.raises(ConfigError, match=r"model\.channels"):
        run(db, plan_coarse(settings), settings)
    settings = tiny(model__name="convnet", space=["model.channels=choice([4],[4,4,4,4])"])
    with pytest.raises(ConfigError, match=r"model\.channels"):
        run(db, plan_coarse(settings), settings)
    assert list_studies(db) == []


def test_gp_with_a_large_budget_is_refused(db, tiny):
    settings = tiny(coarse__sampler="gp", coarse__trials=1000)
    with pytest.raises(ConfigError, match=r"trials = 1000.*\n.*500"):
        run(db, plan_coarse(settings), settings)


def test_training_that_always_raises_fails_three_trials_and_stops_the_stage(db, tiny, monkeypatch):
    settings = tiny(run__width=3)
    monkeypatch.setattr(Pack, "run_epoch", lambda self: 1 / 0)
    with pytest.raises(HpsearchError, match=r"3 trials failed .*3 times running.*\nZeroDivisionError"):
        run(db, plan_coarse(settings), settings)
    trials = read_trials(db, find_study(db, "coarse"))
    failed = [trial for trial in trials if trial.state == "FAIL"]
    assert len(failed) == 3
    assert "ZeroDivisionError" in failed[0].attrs[attributes.TRACEBACK]
    assert sum(trial.state == "WAITING" for trial in trials) == 9


def test_trials_left_running_by_a_killed_process_are_taken_again(db, tiny):
    settings = tiny()
    plan = plan_coarse(settings)
    data = load_images(plan.trial_config, settings.run)
    from hpsearch.stages.opening import open_stage

    worker = Worker(db, open_stage(db, plan, data), plan, data, settings.run)
    worker.queue.worker = worker.queue.worker.replace(str(__import__("os").getpid()), "4194305")  # no such process
    assert worker.queue.take(5)
    assert [trial.state for trial in read_trials(db, find_study(db, "coarse"))].count("RUNNING") == 5
    evidence = run(db, plan, settings)
    assert evidence.num_finished == 12


def test_a_preview_stage_writes_nothing_and_estimates_the_time(db, tiny):
    outlook = preview_stage(plan_coarse(tiny()), tiny().run)
    assert outlook.num_trials == 12
    assert outlook.num_packs == 1
    assert outlook.seconds is not None
    assert outlook.seconds > 0
    assert list_studies(db) == []


def test_a_preview_stage_downloads_nothing(tiny, tmp_path):
    settings = tiny(data__source="cifar10", run__data_dir=str(tmp_path))
    outlook = preview_stage(plan_coarse(settings), settings.run)
    assert outlook.seconds is None
    assert "cifar10" in (outlook.unknown or "")
    assert list(tmp_path.iterdir()) == []


def test_the_summary_says_what_happened(db, tiny):
    settings = tiny()
    summary = stage_summary(run(db, plan_coarse(settings), settings)).as_dict()
    assert summary["trials"] == sum(summary["states"].values()) == 12
    assert summary["exploded"] == summary["states"].get("PRUNED", 0)
    assert {row["param"] for row in summary["boundary"]} == {"lr", "reg"}


def test_tpe_in_fine_does_not_keep_proposing_the_exploding_region(db, tiny):
    """The upper half of the range, in decades, explodes; only the first proposals, drawn at random, may not know."""
    settings = tiny(fine__trials=40, fine__epochs=2, space=["lr=log(1e-4,1e6)"])
    source = optuna.create_study(study_name="coarse", storage=db.optuna_storage(), direction="maximize")
    source.optimize(lambda trial: trial.suggest_float("lr", 1e-4, 1e6, log=True) * 0, n_trials=3)
    evidence = run(db, plan_fine(read_study(db, "coarse"), settings), settings)
    exploded = [trial.attrs.get(attributes.REASON) == "exploded" for trial in evidence.trials]
    assert sum(exploded[:10]) >= 3
    assert sum(exploded[20:]) <= 4


def test_products_of_fewer_digits_are_said(db, tiny, capsys):
    def line_of(**changes):
        settings = tiny(**changes)
        evidence = run_stage(db, plan_coarse(settings, name=changes["train__precision"]), settings.run, checks=False)
        print_stage(stage_summary(evidence))
        return capsys.readouterr().out.splitlines()[0]

    assert "bfloat16 products" in line_of(train__precision="bfloat16")
    assert "products" not in line_of(train__precision="float32")


@pytest.mark.parametrize(
    ("capability", "convolutions", "precision", "words"),
    [
        ((9, 0), True, "float32", "TF32 convolutions"),
        ((9, 0), False, "float32", None),
        ((7, 5), True, "float32", None),
        ((9, 0), True, "float64", None),
        ((9, 0), True, "bfloat16", "bfloat16 products"),
    ],
)
def test_what_a_gpu_rounds_to(monkeypatch, capability, convolutions, precision, words):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", convolutions)
    assert rounding(precision, torch.device("cuda")) == words
    assert rounding("float32", torch.device("cpu")) is None


@pytest.mark.parametrize("way", [run_stage, preview_stage])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"coarse__pruner": "nonsense"}, "coarse.pruner = 'nonsense'"),
        ({"coarse__sampler": "gp", "coarse__trials": 501}, "coarse.trials = 501"),
    ],
)
def test_who_cannot_propose_or_prune_is_refused_before_images_are_read(db, tiny, way, changes, said):
    settings = tiny(data__source="folder:nowhere", **changes)
    arguments = (plan_coarse(settings), settings.run)
    with pytest.raises(ConfigError, match=re.escape(said)):
        way(db, *arguments) if way is run_stage else way(*arguments)
