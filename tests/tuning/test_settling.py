"""How a stage is trained here: devices, workers, threads, width and precision, decided once before it is opened."""

from dataclasses import replace
from functools import partial
from itertools import count
from types import SimpleNamespace

import pytest
import torch

from hpsearch.analysis import attributes
from hpsearch.cli.plan_lines import outlook_lines
from hpsearch.cli.search_progress import SearchProgress, shorter_text
from hpsearch.config import load_settings
from hpsearch.errors import ConfigError, RefusedError
from hpsearch.search import stage_run
from hpsearch.search.stage_run import preview_stage, run_stage
from hpsearch.stages.planning import plan_coarse
from hpsearch.storage import find_study, open_database
from hpsearch.training.images import load_images
from hpsearch.tuning import settling
from hpsearch.tuning import workload as workload_module
from hpsearch.tuning.choosing import Workload, choose
from hpsearch.tuning.settling import Settled, settle
from hpsearch.tuning.timing import Timing
from hpsearch.tuning.workload import arithmetic

WORK = Workload(num_trials=100, epochs=5, num_batches=10, num_evaluated=0)
FUSED, VMAP = (Timing(engine, 25, 0.1, 0.0) for engine in ("fused", "vmap"))


def prepared(tiny, **other):
    settings = tiny(**other)
    plan = plan_coarse(settings)
    return plan, load_images(plan.trial_config, settings.run), settings.run


@pytest.fixture
def takes(monkeypatch):
    """Says how many seconds a search takes one worker with one thread, and how much faster bfloat16 is."""

    def set_to(seconds, bfloat16=None):
        def timed(plan, data, _run, **_options):
            work = settling.workload(plan, data)
            return Timing("fused", work.num_trials, seconds / work.epochs / work.num_batches, 0.0)

        monkeypatch.setattr(settling, "WORTH_TIMING", 0.0)
        monkeypatch.setattr(settling, "time_default", timed)
        monkeypatch.setattr(settling, "why_not_compared", lambda *_: None)
        monkeypatch.setattr(settling, "compare_ways", lambda _plan, _data, _run, known, *_: [known])
        monkeypatch.setattr(settling, "time_bfloat16", lambda *_: bfloat16)

    return set_to


# workers


@pytest.fixture
def eight_cores(monkeypatch):
    monkeypatch.setattr(settling, "num_cores", lambda: 8)


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(("seconds", "workers"), [(3, 1), (6, 1), (8, 8), (3600, 8)])
def test_a_search_gets_a_worker_for_each_core_where_that_ends_it_sooner(tiny, takes, seconds, workers):
    takes(seconds)
    assert settle(*prepared(tiny)).devices == ("cpu",) * workers


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize("other", [{"coarse__sampler": "tpe"}, {"coarse__pruner": "median"}])
def test_what_learns_from_trials_gets_one_worker_unless_more_are_asked_for(tiny, takes, other):
    """Its proposals would depend on the cores of the machine."""
    takes(3600)
    assert len(settle(*prepared(tiny, **other)).devices) == 1
    assert len(settle(*prepared(tiny, run__workers=2, **other)).devices) == 2


@pytest.mark.usefixtures("eight_cores")
def test_what_is_left_of_a_search_counts_not_what_is_done(tiny, takes):
    takes(100)
    assert len(settle(*prepared(tiny), share=0.05).devices) == 1


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("asked", "devices"),
    [
        ({"run__workers": 3}, ("cpu",) * 3),
        ({"run__devices": ["cpu", "cpu"]}, ("cpu",) * 2),
        ({"run__devices": ["cpu"], "run__workers": 2}, ("cpu",) * 2),
        ({"run__device": "cpu", "run__workers": 1}, ("cpu",)),
    ],
)
def test_workers_and_devices_that_are_asked_for_are_taken(tiny, takes, asked, devices):
    takes(3600)
    assert settle(*prepared(tiny, **asked)).devices == devices


@pytest.fixture
def gpus(monkeypatch):
    """So many GPUs are found, as far as the decision looks; images stay on the CPU."""

    def found(number):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
        monkeypatch.setattr(settling, "resolve_device", lambda _: torch.device("cuda", 0))

    return found


@pytest.mark.parametrize(
    ("number", "other", "workers"),
    [
        (1, {}, 1),
        (1, {"run__device": "cuda"}, 1),
        (1, {"run__workers": 2}, 2),
        (2, {}, 2),
        (2, {"coarse__trials": 1}, 1),
        (2, {"run__workers": 1}, 1),
    ],
)
def test_workers_on_gpus_and_their_server_are_for_more_than_one(tiny, gpus, number, other, workers):
    _, data, _ = prepared(tiny)
    settings = tiny(**{"run__device": "auto", **other})
    plan, run = plan_coarse(settings), settings.run
    gpus(number)
    assert len(settle(plan, data, run).devices) == workers
    assert settling.get_ready(plan, data, run) == (workers > 1)


def test_a_search_on_one_gpu_trains_in_the_process_of_the_command(db, tiny, gpus, monkeypatch):
    plan, data, _ = prepared(tiny)
    gpus(1)
    monkeypatch.setattr(settling, "WORTH_TIMING", 0.0)  # the largest search of all
    monkeypatch.setattr(stage_run, "rounding", lambda *_: None)  # asks the driver
    for name in ("start_server", "ProcessLauncher"):
        monkeypatch.setattr(stage_run.processes, name, None)
    run = tiny(run__device="auto").run
    evidence = run_stage(db, plan, run, images=data, checks=False)
    assert evidence.num_finished == 12


def test_a_device_that_is_not_there_is_refused(tiny):
    plan, data, run = prepared(tiny)
    with pytest.raises(ConfigError, match="cuda:99"):
        settle(plan, data, run.model_copy(update={"devices": ("cpu", "cuda:99")}))


def test_each_of_several_workers_gets_its_part_of_the_cores(tiny, monkeypatch):
    granted = []
    monkeypatch.setattr(settling, "set_threads", lambda *asked: granted.append(asked) or 1)
    settle(*prepared(tiny, run__workers=2, run__threads=0))
    assert granted[-1] == (0, 2)


def test_a_small_search_of_several_workers_has_packs_for_all(tiny):
    plan, data, run = prepared(tiny)
    two = run.model_copy(update={"workers": 2})
    assert settle(plan, data, two).run.width == 6
    assert settle(plan, data, two, share=0.5).run.width == 3
    assert settle(plan, data, two, share=0.0).run.width == 1  # all has ended
    assert preview_stage(plan, two).num_packs == 2
    own = two.model_copy(update={"width": 8})
    assert settle(plan, data, own).run is own
    learning, _, _ = prepared(tiny, coarse__sampler="tpe")
    assert settle(learning, data, two).run is two


def as_large_as(num_train, shape, num_classes):
    """Images as far as the rules for cores look at them: how many there are, of which shape, where."""
    return SimpleNamespace(
        folds=(None,),
        num_train=num_train,
        shape=shape,
        num_classes=num_classes,
        x_train_NCHW=torch.empty(0, *shape),
        trained_net=lambda model: (model, shape),
    )


def test_a_lenet_on_cifar10_is_timed_and_an_mlp_on_digits_is_not():
    sets = ["model.name=lenet", "coarse.trials=20", "coarse.epochs=5", "run.device=cpu"]
    plan, cifar10 = plan_coarse(load_settings(sets=sets)), as_large_as(50_000, (3, 32, 32), 10)
    assert arithmetic(plan, cifar10) == 6 * 651_720 * 50_000 * 5 * 20 > settling.WORTH_TIMING
    plan, digits = plan_coarse(load_settings()), as_large_as(1797, (1, 8, 8), 10)  # 100 trials x 10 epochs of 64-50-10
    assert arithmetic(plan, digits) < settling.WORTH_TIMING


@pytest.mark.parametrize(("seconds", "asked"), [(5, [1, 0]), (3600, [1, 0])])
def test_one_worker_that_learns_gets_all_cores_for_a_large_search(tiny, takes, monkeypatch, seconds, asked):
    granted = []
    monkeypatch.setattr(settling, "set_threads", lambda threads, *_: granted.append(threads) or 1)
    monkeypatch.setattr(settling, "num_cores", lambda: 8)
    takes(seconds)
    settle(*prepared(tiny, coarse__sampler="tpe", run__threads=0))
    assert granted == asked


# precision


@pytest.fixture
def new_db(tmp_path):
    numbers = count()
    return lambda: open_database(f"sqlite:///{tmp_path}/{next(numbers)}.db", create=True)


@pytest.fixture
def search(tiny):
    return partial(_search, tiny)


def _search(tiny, db, wanted):
    """Run the stage; the precision that is stored with it, and the values of its trials."""
    given = tiny(train__precision=wanted, run__workers=1)
    plan = plan_coarse(given, "coarse")
    found = run_stage(db, plan, given.run, checks=False)
    kept = find_study(db, "coarse").attrs[attributes.CONFIG]["train"]["precision"]
    return kept, [trial.value for trial in found.trials]


@pytest.mark.parametrize(
    ("factor", "kept"), [(None, "float32"), (0.0, "float32"), (1.05, "float32"), (1.4, "bfloat16")]
)
def test_the_faster_precision_is_kept_with_the_stage(search, new_db, takes, factor, kept):
    takes(5, factor)
    found, values = search(new_db(), "auto")
    assert found == kept
    assert values == search(new_db(), kept)[1]


def test_a_stage_that_exists_goes_on_in_its_own_precision(search, new_db, takes):
    db = new_db()
    takes(5, 1.4)
    first = search(db, "auto")
    takes(5)
    assert search(db, "auto") == first == search(db, "bfloat16")
    with pytest.raises(RefusedError, match="precision"):
        search(db, "float32")


def test_of_two_that_measure_differently_the_first_to_create_the_stage_wins(search, new_db, takes, monkeypatch):
    db = new_db()
    takes(5, 1.4)
    first = search(db, "auto")
    takes(5, 1.0)
    stored, calls = stage_run.stored_precision, []

    def not_there_yet(*arguments):
        calls.append(1)
        return stored(*arguments) if len(calls) > 1 else None

    monkeypatch.setattr(stage_run, "stored_precision", not_there_yet)
    assert search(db, "auto") == first
    assert len(calls) == 2


def test_bfloat16_that_was_asked_for_is_not_said_to_be_faster(tiny, takes, capsys):
    takes(5, 1.4)
    for wanted, is_noted in (("auto", True), ("bfloat16", False)):
        plan, data, run = prepared(tiny, train__precision=wanted, run__workers=1)
        SearchProgress(quiet=False, as_json=False).settled(settle(plan, data, run))
        assert ("faster here" in capsys.readouterr().out) == is_noted


@pytest.mark.parametrize("wanted", ["auto", "float32"])
def test_nothing_is_measured_for_a_small_search(search, new_db, monkeypatch, wanted):
    for name in ("time_default", "time_bfloat16"):
        monkeypatch.setattr(settling, name, lambda *_, **__: pytest.fail("a step was timed"))
    assert search(new_db(), wanted)[0] == "float32"


def test_a_precision_that_is_given_is_not_compared_with_another(search, new_db, takes, monkeypatch):
    takes(5)
    monkeypatch.setattr(settling, "time_bfloat16", lambda *_: pytest.fail("bfloat16 was timed"))
    assert search(new_db(), "float32")[0] == "float32"


# what a dry run says


def test_a_dry_run_takes_the_workers_into_account(tiny):
    settings = tiny(run__width=3, run__workers=1)
    alone = preview_stage(plan_coarse(settings), settings.run)
    together = preview_stage(plan_coarse(settings), settings.run.model_copy(update={"workers": 4}))
    assert (len(alone.devices), len(together.devices)) == (1, 4)
    for outlook, rounds in ((alone, 4), (together, 1)):
        tuned = outlook.tuning
        assert outlook.num_packs == 4
        assert outlook.seconds == pytest.approx(rounds * 2 * 3 * tuned.seconds_per_trial_epoch)
    assert {"engine": "fused", "threads": 1, "workers": 4}.items() <= together.as_dict().items()


def test_a_dry_run_says_what_was_measured(tiny):
    settings = tiny()
    plan = plan_coarse(settings).with_precision("float32")
    tuned = choose([FUSED, VMAP], WORK, threads=2)
    outlook = Settled(plan, settings.run, ("cpu",), 2, 100, tuned)
    assert dict(outlook_lines(outlook)) == {
        "packs": "4 packs of 25 trials on cpu, engine fused, float32, 1 worker with 2 threads",
        "time": "about 20 s",
        "measured": "100 ms a step for 25 trials, engine fused, the best of 2 ways",
    }
    tuned = replace(choose([FUSED], replace(WORK, workers=2), threads=1), bfloat16=1.73)
    lines = dict(outlook_lines(replace(outlook, devices=("cpu", "cpu"), tuning=tuned)))
    assert lines["packs"].endswith("2 workers, each with 1 thread")
    assert lines["time"] == "about 10 s"
    assert lines["measured"] == "100 ms a step for 25 trials, engine fused"
    assert "1.7 x as fast" in lines["bfloat16"]
    assert "--set train.precision=bfloat16" in lines["bfloat16"]
    assert "bfloat16" not in dict(outlook_lines(replace(outlook, tuning=replace(tuned, bfloat16=1.05))))
    unknown = replace(outlook, tuning=None, unknown="no images")
    assert outlook_lines(unknown) == [("time", "not known: no images")]


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({"coarse__epochs": 5}, "--epochs-budget 166, most of it for the best trials"),
        ({"coarse__epochs": 5, "coarse__pruner": "median"}, "--trials 25"),  # which ends trials already
        ({"coarse__epochs": 5, "coarse__halving": "stop"}, "--trials 25"),
        ({"coarse__epochs_budget": 400}, "--epochs-budget 100"),
    ],
)
def test_what_makes_a_search_shorter_begins_with_what_costs_least(tiny, changes, first):
    settings = tiny(coarse__trials=100, **changes)
    outlook = Settled(plan_coarse(settings), settings.run, ("cpu",), 2, 100, None)
    assert shorter_text(outlook).startswith(f"shorter with {first}, --")


@pytest.mark.parametrize(
    ("changes", "width"),
    [
        ({"coarse__epochs": 20}, 10),  # of 55 trials, in six rounds
        ({"coarse__epochs": 20, "coarse__halving": "none"}, 8),  # those that have all their epochs
        ({"coarse__epochs": 20, "coarse__halving": "none", "coarse__sampler": "tpe"}, 2),
    ],
)
def test_packs_are_of_the_trials_that_a_budget_in_epochs_suffices_for(tiny, changes, width):
    """With 150 epochs a third of the trials had begun before one of them was compared, and none came to its end."""
    plan, data, run = prepared(tiny, coarse__epochs_budget=150, **changes)
    assert workload_module.choose_width(plan.trial_config, data, run, plan.settings, 150) == width


def test_a_pack_on_a_gpu_is_as_wide_as_its_memory(tiny, monkeypatch):
    plan, data, run = prepared(tiny, coarse__trials=300)
    monkeypatch.setattr(workload_module, "free_bytes", lambda _device: 10**6)
    monkeypatch.setattr(workload_module, "trial_bytes", lambda *_: 10**5)
    width = workload_module.choose_width(plan.trial_config, data, run, plan.settings, 300, device="cuda")
    assert width == 7  # of ten, 70%
    monkeypatch.setattr(workload_module, "free_bytes", lambda _device: 1)
    assert workload_module.choose_width(plan.trial_config, data, run, plan.settings, 300, device="cuda") == 1
    monkeypatch.setattr(workload_module, "free_bytes", lambda _device: None)
    assert workload_module.choose_width(plan.trial_config, data, run, plan.settings, 300, device="cuda") == 100
