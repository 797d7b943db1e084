"""One contract for all measures: scikit-learn's values for all trials of a pack, whatever the chunks and neighbours."""

import math

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_training import make_config, make_data

from hpsearch.config import usercode
from hpsearch.config.metric import METRICS, Metric, metric_of
from hpsearch.errors import ConfigError
from hpsearch.results import EpochResult, TrialSpec, best_epoch
from hpsearch.training import Pack, metric_limits, metrics
from hpsearch.training.checkpoints import Checkpoint, Checkpoints
from hpsearch.training.class_scores import class_scores
from hpsearch.training.early_stopping import stopped_early

OWN = """
import numpy as np
def brier(scores, labels):
    return ((scores - np.eye(scores.shape[1])[labels]) ** 2).mean()
brier.minimize = True
def recognized(scores, labels):
    return (scores.argmax(1) == labels).mean()
def nothing(scores, labels):
    return float("nan")
def text(scores, labels):
    return "good"
def broken(scores, labels):
    raise KeyError("no class 3")
def greedy(scores, labels):
    scores[:], labels[:] = 0, 0
    return 0.5
"""
MEASURES = (*METRICS, "own_measures:brier", "own_measures:recognized")


@pytest.fixture(autouse=True)
def _own_measures(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_measures.py").write_text(OWN)
    monkeypatch.syspath_prepend(folder)
    usercode.trust("own_measures")


def measured(name, logits_KNC, y_N, chunk=None, slots=None):
    measure = metrics.make_measure(name, slots)
    size = chunk or len(y_N)
    for logits_KBC, y_B in zip(logits_KNC.split(size, dim=1), y_N.split(size), strict=True):
        measure.add(logits_KBC, y_B)
    return measure.values()


def reference(name, logits_NC, y_N):
    """By scikit-learn; classes without an image are left out of means."""
    y, num_classes = y_N.numpy(), logits_NC.shape[1]
    scores, predicted, present = logits_NC.softmax(-1).numpy(), logits_NC.argmax(-1).numpy(), np.unique(y)
    means = {"labels": present, "average": "macro", "zero_division": 0}
    match name:
        case "accuracy" | "own_measures:recognized":
            return sk.accuracy_score(y, predicted)
        case "balanced_accuracy":
            return sk.recall_score(y, predicted, **means)
        case "macro_f1":
            return sk.f1_score(y, predicted, **means)
        case "auroc":
            return np.mean([sk.roc_auc_score(y == c, scores[:, c]) for c in present]) if len(present) > 1 else math.nan
        case "top5":
            if num_classes <= 5:  # where it warns
                return 1.0
            return sk.top_k_accuracy_score(y, logits_NC.numpy(), k=5, labels=range(num_classes))
        case "loss":
            return sk.log_loss(y, scores, labels=range(num_classes))
        case "own_measures:brier":
            return ((scores - np.eye(num_classes)[y]) ** 2).mean()


@st.composite
def packs(draw):
    """Logits of some trials and labels; few different logits, so that many are equal, and often classes are missing."""
    num_trials, num_images, num_classes = draw(st.integers(1, 3)), draw(st.integers(1, 30)), draw(st.integers(3, 8))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    levels = draw(st.sampled_from([2, 4, 1000]))
    shape = (num_trials, num_images, num_classes)
    logits_KNC = torch.randint(levels, shape, generator=generator).double() * (4 / levels)
    last = draw(st.integers(1, num_classes))
    return logits_KNC, torch.randint(last, (num_images,), generator=generator)


@pytest.mark.parametrize("name", MEASURES)
@settings(deadline=None, max_examples=15)
@given(pack=packs(), chunk=st.integers(1, 40))
def test_equals_scikit_learn_whatever_the_chunks_and_neighbours(name, pack, chunk):
    logits_KNC, y_N = pack
    found = measured(name, logits_KNC, y_N, chunk)
    expected = [reference(name, logits_NC, y_N) for logits_NC in logits_KNC]
    assert found == pytest.approx(expected, abs=1e-9, nan_ok=True)
    assert found == pytest.approx([measured(name, each.unsqueeze(0), y_N)[0] for each in logits_KNC], nan_ok=True)


@pytest.mark.parametrize("name", MEASURES)
def test_logits_that_are_no_numbers_give_no_number_and_leave_the_others_alone(name):
    generator = torch.Generator().manual_seed(1)
    logits_KNC, y_N = torch.randn(3, 20, 6, generator=generator), torch.arange(20) % 6
    alone = measured(name, logits_KNC[:1], y_N)
    logits_KNC[1, 7, 2], logits_KNC[2] = math.nan, math.nan
    first, *others = measured(name, logits_KNC, y_N, chunk=6)
    assert first == pytest.approx(alone[0])
    assert all(map(math.isnan, others))


@pytest.mark.parametrize("name", MEASURES)
def test_nothing_is_better_than_to_be_right_and_sure(name):
    y_N = torch.arange(24) % 8
    right = 20.0 * torch.nn.functional.one_hot(y_N, 8).double()
    guess, wrong = torch.zeros_like(right), right.roll(1, dims=1)
    goodness = metric_of(name).goodness
    best, *others = map(goodness, measured(name, torch.stack([right, guess, wrong]), y_N))
    assert all(best > other for other in others)
    assert best == pytest.approx(0 if goodness(1) < 0 else 1, abs=1e-7)


def test_macro_auroc_is_scikit_learns_own_where_all_classes_are_there():
    logits_NC, y_N = torch.randn(60, 4, generator=torch.Generator().manual_seed(2)).double(), torch.arange(60) % 4
    expected = sk.roc_auc_score(y_N.numpy(), logits_NC.softmax(-1).numpy(), multi_class="ovr", average="macro")
    assert metrics.score_of("auroc", logits_NC, y_N) == pytest.approx(expected)
    two = logits_NC[:, :2]
    expected = sk.roc_auc_score((y_N % 2).numpy(), two.softmax(-1)[:, 1].numpy())
    assert metrics.score_of("auroc", two, y_N % 2) == pytest.approx(expected)


@pytest.fixture(scope="module")
def data():
    return make_data()


@pytest.mark.parametrize(  # a measure is given logits, and knows of no engine: some of each form in all of them
    ("engine", "name"),
    [
        *(("fused", name) for name in MEASURES),
        *((engine, name) for engine in ("loop", "vmap") for name in ("accuracy", "auroc", "own_measures:brier")),
    ],
)
def test_a_pack_counts_by_it(data, name, engine, monkeypatch):
    """Each epoch's score is that of the net's logits then, and the best epoch's weights are kept; top5 of 4 is 1."""
    config = make_config(epochs=4, model__hidden=(6,))
    config = config.model_copy(update={"train": config.train.model_copy(update={"metric": name})})
    monkeypatch.setattr(metrics, "CPU_SCORES", 2 * data.num_val * data.num_classes)  # of two trials at a time
    specs = [TrialSpec(3 * i, {"lr": lr}) for i, lr in enumerate((1e-3, 1e-2, 0.3))]
    pack, results = Pack(config, data, specs, engine=engine), {spec.number: [] for spec in specs}

    def score(number, which):
        logits_NC = class_scores(config.model, pack.state(number, which), data.x_val_NCHW, data.num_classes)
        return reference(name, logits_NC, data.y_val_N)

    while not pack.done:
        for result in pack.run_epoch().results:
            results[result.number].append(result)
            assert result.val_score == pytest.approx(score(result.number, "last"), rel=1e-9)
            assert (result.score is None) == (name == "accuracy")
    for number in pack.numbers:
        best = best_epoch(results[number], pack.metric.direction)
        assert score(number, "best") == pytest.approx(best.val_score, rel=1e-9)


def test_the_accuracy_is_what_it_was(data):
    """Another metric changes no other number, and the accuracy comes without a score of its own."""
    curves = []
    for name in ("accuracy", "macro_f1", "loss", "auroc"):
        config = make_config(epochs=3, model__hidden=(6,))
        config = config.model_copy(update={"train": config.train.model_copy(update={"metric": name})})
        pack = Pack(config, data, [TrialSpec(0), TrialSpec(1, {"lr": 0.1})])
        curves.append([r.as_plain() for _ in range(3) for r in pack.run_epoch().results])
    assert "score" not in curves[0][0]
    for others in curves[1:]:
        assert [{k: v for k, v in each.items() if k != "score"} for each in others] == curves[0]


def result_of(epoch, score, **other):
    return EpochResult(0, epoch, 1.0, 1.0, 0.5, 1.0, 0.5, 1e-3, 0.1, score=score, **other)


@pytest.mark.parametrize(
    ("scores", "direction", "best"),
    [
        ([0.5, 0.9, 0.9, 0.1], "maximize", 2),
        ([0.5, 0.2, 0.2, 0.9], "minimize", 2),
        ([math.nan, 0.2, math.nan], "maximize", 2),
        ([math.nan, 0.2, 0.3], "minimize", 2),
        ([math.nan, math.nan], "minimize", 1),
        ([-0.5, -0.2], "maximize", 2),
    ],
)
def test_the_best_epoch_honours_the_direction(scores, direction, best):
    assert best_epoch([result_of(i, score) for i, score in enumerate(scores, start=1)], direction).epoch == best


def test_results_without_a_score_are_read_as_accuracies():
    old = {**result_of(1, None).as_plain(), "val_acc": 0.75}
    assert "score" not in old
    assert EpochResult.of_plain(old).val_score == 0.75
    for score in (0.25, math.nan):
        again = EpochResult.of_plain(result_of(1, score).as_plain())
        assert again.val_score == pytest.approx(score, nan_ok=True)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=20), st.integers(1, 5))
def test_patience_sees_a_falling_measure_as_a_rising_one(values, patience):
    assert stopped_early([-v for v in values], patience, "minimize") == stopped_early(values, patience)


def test_patience_waits_for_a_first_number():
    assert not stopped_early([math.nan] * 5, 2)
    assert stopped_early([0.5, *[math.nan] * 5], 2)


def test_a_checkpoint_finds_the_best_epoch_by_the_direction(tmp_path, data):
    config = make_config(epochs=4, model__hidden=(6,))
    config = config.model_copy(update={"train": config.train.model_copy(update={"metric": "own_measures:brier"})})
    pack, results = Pack(config, data, [TrialSpec(0, {"lr": 0.02})]), []
    for _ in range(3):
        results += pack.run_epoch().results
    checkpoints = Checkpoints(tmp_path, "study", direction="minimize")
    checkpoints.save(0, Checkpoint(pack.snapshot(0), results))
    found = checkpoints.load(0)
    assert found.results == results
    assert found.snapshot.best == min(results, key=lambda result: (result.score, result.epoch))


def test_a_function_of_the_users_says_which_way_is_better():
    assert metric_of("own_measures:brier") == Metric("own_measures:brier", "minimize")
    assert metric_of("own_measures:recognized").direction == "maximize"
    assert metric_of("own_measures:brier").column == "val_brier"


def test_what_it_returns_is_a_number_or_an_error_before_the_first_trial(data):
    assert all(map(math.isnan, measured("own_measures:nothing", torch.zeros(2, 4, 3), torch.arange(4) % 3)))
    with pytest.raises(ConfigError, match=r"own_measures:text: .* raised TypeError: it returned str, which is no num"):
        metric_limits.refuse_undefined(make_config(), metric_of("own_measures:text"), data)
    with pytest.raises(ConfigError, match=r"own_measures:broken: calling it as train.metric raised KeyError"):
        metric_limits.refuse_undefined(make_config(), metric_of("own_measures:broken"), data)


def test_it_cannot_change_what_others_see():
    logits_KNC, y_N = torch.randn(2, 6, 3), torch.arange(6) % 3
    before = y_N.clone()
    assert measured("own_measures:greedy", logits_KNC, y_N) == [0.5, 0.5]
    assert torch.equal(y_N, before)


@pytest.mark.parametrize(
    ("name", "value"),
    [("macro_f1", 0.0), ("auroc", 0.0), ("loss", 3 * math.log(4)), ("own_measures:nothing", 0.0)],
)
def test_an_explosion_counts_as_no_better_than_a_guess(data, name, value):
    assert metric_limits.exploded_value(make_config(), metric_of(name), data) == pytest.approx(value)


def test_metrics_that_say_nothing_are_refused(data):
    with pytest.raises(ConfigError, match=r"top5.*is 1 for every net: there are 4 classes"):
        metric_limits.refuse_undefined(make_config(), metric_of("top5"), data)
