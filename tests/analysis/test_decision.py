"""Go on or stop: tables of what the stages say."""

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpsearch.analysis.advice import what_next
from hpsearch.analysis.called_again import TriedAgain
from hpsearch.analysis.chance import KeptImages
from hpsearch.analysis.decision import Limits, best_stage, decide, is_unsettled, luck_text, searched_beyond
from hpsearch.analysis.gain import ahead_of, called_later_text
from hpsearch.analysis.repeats import Repeated
from hpsearch.analysis.stopped_trials import StoppedTrials
from hpsearch.analysis.summary import StageSummary
from hpsearch.config import Choice, FloatRange, IntRange
from hpsearch.config.metric import ACCURACY, Metric
from hpsearch.space import Verdict
from hpsearch.storage import TrialRow

LOG = FloatRange(1e-4, 1e-3, log=True)


def verdict(side="inside", param="lr", searched=LOG, proposed=None, best=None):
    ends = (None, None) if isinstance(searched, Choice) else (searched.low, searched.high)
    best = best if best is not None else {"lower": ends[0], "upper": ends[1]}.get(side, 3e-4)
    return Verdict(param, best, *ends, True, 0.5, side, proposed or searched, "")


def stage(value, name="fine", kind="fine", verdicts=(), epochs=20, finished=10):
    best = TrialRow(1, 0, "COMPLETE", value, {"lr": 3e-4}, {"lr": LOG}) if value is not None else None
    return StageSummary(name, kind, None, "val_acc", 10, {"COMPLETE": finished}, 0, epochs, best, tuple(verdicts))


COARSE = stage(0.5, "coarse", "coarse", [verdict()], epochs=5)
MOVING = verdict("upper", proposed=FloatRange(5e-4, 3e-3, log=True))
HELD = verdict("upper")


def test_a_coarse_stage_is_followed_by_a_fine_one():
    decision = decide([COARSE], 1000, Limits())
    assert decision.go_on
    assert "coarse trained 5 epochs" in decision.reason


def test_inside_and_no_gain_is_the_end():
    decision = decide([COARSE, stage(0.6), stage(0.601, "fine-2", verdicts=[verdict()])], 10_000, Limits())
    assert decision.ending == "settled"
    assert "inside every range" in decision.reason
    assert "fine-2 gained 0.0010 over fine: less than 0.0050; one standard error of 0.6010 on 10000" in decision.reason


def test_a_best_on_a_boundary_that_can_move_goes_on_even_without_gain():
    decision = decide([COARSE, stage(0.6), stage(0.6, "fine-2", verdicts=[MOVING])], 10_000, Limits())
    assert decision.go_on
    assert "the best lr, 1e-03, is at the upper end of [1e-04, 1e-03]" in decision.reason


def test_an_end_that_cannot_move_is_settled_and_named():
    decision = decide([COARSE, stage(0.6), stage(0.6, "fine-2", verdicts=[HELD])], 10_000, Limits())
    assert decision.ending == "settled"
    assert "inside every range that can move" in decision.reason
    assert "lr, 1e-03, is at the upper end" in decision.reason


def test_it_is_said_whose_best_is_inside_where_another_stage_has_the_best_of_all():
    for last, said in ((verdict(), "the best of fine-2 is inside"), (HELD, "the best lr of fine-2, 1e-03, is at the")):
        assert said in decide([COARSE, stage(0.62), stage(0.6, "fine-2", verdicts=[last])], 10_000, Limits()).reason


@pytest.mark.parametrize(
    ("side", "searched", "beyond"),
    [
        ("lower", (1e-5, 2e-4), True),
        ("lower", (1e-4, 1e-2), False),
        ("upper", (1e-4, 1e-2), True),
        ("upper", (1e-5, 1e-3), False),
        ("inside", (1e-6, 1e-1), False),
    ],
)
def test_an_end_is_searched_beyond_where_a_later_range_goes_on(side, searched, beyond):
    other = stage(0.4, verdicts=[verdict("inside", "reg", FloatRange(1e-9, 1e9, log=True))])
    later = stage(0.4, "fine-2", verdicts=[verdict("inside", searched=FloatRange(*searched, log=True))])
    found = searched_beyond(verdict(side), [other, later])
    assert found == ((later, later.verdicts[0]) if beyond else None)


def test_the_gain_is_measured_over_the_best_of_all_earlier_stages():
    stages = [COARSE, stage(0.62), stage(0.58, "fine-2"), stage(0.61, "fine-3")]
    assert decide(stages, 10_000, Limits(max_stages=9)).ending == "settled"
    assert "fine-3 reached 0.0100 less than fine" in decide(stages, 10_000, Limits(max_stages=9)).reason


def test_stages_of_other_lengths_are_said_to_be_so():
    assert "(20 epochs against 5)" in decide([COARSE, stage(0.9)], 10_000, Limits()).reason
    shorter = decide([COARSE, stage(0.9), stage(0.85, "fine-2", epochs=3)], 10_000, Limits()).reason
    assert "fine-2 reached 0.0500 less than fine (3 epochs against 20, so the two are not comparable)" in shorter
    assert "gained" not in shorter


@pytest.mark.parametrize(
    ("num_val", "asked", "go_on", "words"),
    [
        (100, None, False, "less than 0.0488, one standard error of 0.6100 on 100 images"),
        (100_000, None, True, "more than 0.0050; one standard error of 0.6100 on 100000 images is 0.0015"),
        (100, 0.001, True, "one standard error of 0.6100 on 100 images is 0.0488, so it may be luck"),
        (100_000, 0.02, False, "less than 0.0200"),
    ],
)
def test_a_gain_counts_from_one_standard_error_unless_an_amount_is_asked_for(num_val, asked, go_on, words):
    decision = decide([COARSE, stage(0.6), stage(0.61, "fine-2")], num_val, Limits(gain=asked))
    assert decision.go_on is go_on
    assert words in decision.reason


def test_no_gain_at_all_is_not_enough_even_if_nothing_is_asked_for():
    assert decide([COARSE, stage(0.6), stage(0.6, "fine-2")], 1000, Limits(gain=0)).ending == "settled"


def test_nothing_is_left_to_gain_at_one():
    decision = decide([COARSE, stage(1.0, verdicts=[MOVING])], 100, Limits())
    assert decision.ending == "settled"
    assert decision.reason == "val_acc is 1 on 100 images: there is nothing left to gain"


def test_no_error_on_few_images_is_not_taken_at_its_word():
    decision = decide([COARSE, stage(1.0)], 13, Limits())
    assert decision.ending == "settled"
    assert decision.reason.startswith("1.0000 on 13 images: nothing here can tell better ones apart")
    assert "may give 0.77; hold out more (data.val)" in decision.reason


def test_the_most_stages_end_it_and_say_what_is_open():
    decision = decide([COARSE, stage(0.6, verdicts=[MOVING])], 10_000, Limits(max_stages=2))
    assert decision.ending == "stages"
    assert "2 stages are the most allowed, though the best lr" in decision.reason
    assert decide([COARSE], 100, Limits(max_stages=1)).ending == "stages"


def test_the_time_ends_it_between_stages_and_within_one():
    between = decide([COARSE, stage(0.6, verdicts=[MOVING])], 100, Limits(), time_is_up=True)
    assert between.ending == "time"
    assert "though the best lr" in between.reason
    within = decide([COARSE, stage(0.6, finished=7)], 100, Limits(), time_is_up=True)
    assert within.ending == "time"
    assert "fine is left at 7 of 10 trials" in within.reason
    settled = decide([COARSE, stage(0.6), stage(0.6, "fine-2")], 10_000, Limits(), time_is_up=True)
    assert settled.ending == "settled"


def test_without_a_finished_trial_there_is_nothing_to_narrow_by():
    assert decide([stage(None, "coarse", "coarse")], 100, Limits()).ending == "nothing"


def test_a_choice_and_a_single_value_never_ask_for_more():
    assert not is_unsettled(verdict("inside", searched=Choice(("a", "b")), best="a"), [])
    assert not is_unsettled(verdict("single"), [])


@pytest.mark.parametrize(("low", "high"), [(3, 4), (3, 5)])
def test_a_narrow_int_range_is_settled_where_the_neighbour_was_searched(low, high):
    searched = IntRange(low, high)
    down = verdict("lower", "layers", searched, IntRange(low - 1, high))
    up = verdict("upper", "layers", searched, IntRange(low, high + 1))
    wide = stage(0.5, "coarse", "coarse", [verdict("inside", "layers", IntRange(1, high), best=4)])
    assert not is_unsettled(down, [wide])
    assert is_unsettled(up, [wide])
    assert is_unsettled(down, [])
    other = stage(0.5, "coarse", "coarse", [verdict("inside", "width", IntRange(1, high), best=4)])
    assert is_unsettled(down, [other])


def test_a_wide_int_range_counts_as_any_other():
    moving = verdict("lower", "units", IntRange(20, 100), IntRange(10, 60))
    wide = stage(0.5, "coarse", "coarse", [verdict("inside", "units", IntRange(1, 500), best=20)])
    assert is_unsettled(moving, [wide])


def test_two_values_in_turn_do_not_go_on_for_ever():
    """The best jumps between 4 and 5, and each range proposes the other: no new ground after the first look at it."""
    stages = [COARSE, stage(0.6, verdicts=[verdict("upper", "layers", IntRange(4, 5), IntRange(5, 6))])]
    assert decide(stages, 10_000, Limits(max_stages=99)).go_on
    stages.append(stage(0.6, "fine-2", verdicts=[verdict("lower", "layers", IntRange(5, 6), IntRange(4, 6))]))
    assert decide(stages, 10_000, Limits(max_stages=99)).ending == "settled"


def test_the_latest_of_equally_good_stages_is_the_best():
    stages = [COARSE, stage(0.6), stage(0.6, "fine-2"), stage(0.59, "fine-3"), stage(None, "fine-4")]
    assert best_stage(stages).study == "fine-2"
    assert best_stage([stage(None)]) is None


def test_a_best_that_luck_explains_is_the_end():
    """Counted over all trials of all stages: the best of more guesses is better."""
    images = KeptImages(num_classes=4, num_val=200)
    noise = [dataclasses.replace(COARSE, best=dataclasses.replace(COARSE.best, value=0.31), images=images)]
    decision = decide(noise, 200, Limits())
    assert decision.ending == "luck"
    assert "0.3100, is no better than chance (0.25 ± 0.03 on 200 images): of 10 trials" in decision.reason
    learned = [dataclasses.replace(noise[0], best=dataclasses.replace(COARSE.best, value=0.35))]
    assert decide(learned, 200, Limits()).go_on
    assert "of 20 trials" in luck_text([*noise, dataclasses.replace(noise[0], study="fine")])


@settings(deadline=None)
@given(
    values=st.lists(st.floats(0, 1), min_size=1, max_size=6),
    sides=st.lists(st.sampled_from(["inside", "lower", "upper"]), min_size=6, max_size=6),
    gain=st.none() | st.floats(0, 0.1),
    num_val=st.integers(2, 100_000),
    most=st.integers(1, 6),
)
def test_it_always_ends_and_always_says_why(values, sides, gain, num_val, most):
    wider = FloatRange(1e-5, 1e-2, log=True)
    stages = [
        stage(value, f"s{i}", "fine" if i else "coarse", [verdict(side, proposed=wider)])
        for i, (value, side) in enumerate(zip(values, sides, strict=False))
    ]
    decision = decide(stages, num_val, Limits(gain, most))
    assert decision.reason
    if len(stages) >= most:
        assert not decision.go_on
    if decision.ending == "settled" and not math.isclose(values[-1], 1):
        assert sides[len(values) - 1] == "inside"


def by(metric, *values):
    """Stages of another metric: coarse, then fine ones whose best is inside."""
    first, *others = values
    stages = [dataclasses.replace(COARSE, best=stage(first).best)]
    stages += [stage(value, f"fine-{number}", verdicts=[verdict()]) for number, value in enumerate(others, start=1)]
    return [dataclasses.replace(each, metric=metric) for each in stages]


LOSS = Metric("loss", "minimize")
F1 = Metric("macro_f1")


@pytest.mark.parametrize(
    ("stages", "go_on", "said"),
    [
        (by(LOSS, 0.9, 0.50, 0.40), True, "fine-2 gained 0.1000 of val_loss over fine-1: more than 0.005, 1% of it"),
        (by(LOSS, 0.9, 0.50, 0.499), False, "fine-2 gained 0.0010 of val_loss over fine-1: less than 0.005, 1% of it"),
        (by(LOSS, 0.9, 0.50, 0.60), False, "fine-2 reached 0.1000 worse val_loss than fine-1"),
        (by(LOSS, 2.0, 1.5, 1.2), True, "fine-2 gained 0.3000 of val_loss"),  # a loss above 1 is no perfect share
        (by(F1, 0.3, 0.50, 0.53), True, "fine-2 gained 0.0300 of val_macro_f1 over fine-1: more than 0.005"),
        (by(F1, 0.3, 0.50, 0.503), False, "less than 0.005"),
        (by(F1, 0.3, 1.0), False, "val_macro_f1 is 1 on 1000 images: there is nothing left to gain"),
    ],
)
def test_a_gain_is_counted_in_the_direction_of_the_metric(stages, go_on, said):
    decision = decide(stages, 1000, Limits())
    assert decision.go_on == go_on
    assert said in decision.reason


def test_the_best_stage_by_loss_is_that_with_the_lowest():
    stages = by(LOSS, 0.9, 0.5, 0.7)
    assert best_stage(stages) is stages[1]


def test_stages_of_another_metric_are_no_measure():
    earlier, last = by(F1, 0.3, 0.99), dataclasses.replace(stage(0.5, "fine-2"), metric=LOSS)
    assert best_stage([*earlier, last]) is last


def test_a_stage_that_called_its_best_again_counts_before_lucky_ones():
    own = Metric("score", "maximize", is_own=True)
    lucky, called, second = by(own, 0.99, 0.9, 0.95)
    called = dataclasses.replace(called, repeated=(Repeated(0, 0.9, (0.88,)),))
    assert best_stage([lucky, called]) is called
    second = dataclasses.replace(second, repeated=(Repeated(0, 0.95, (0.8,)),))
    assert best_stage([lucky, called, second]) is called
    nets = [dataclasses.replace(each, metric=ACCURACY) for each in (lucky, called)]
    assert best_stage(nets) is nets[0]


OWN = Metric("score", "maximize", is_own=True)


def called(study, first, *again, tried=(), attrs=()):
    """A stage over code whose best trial was called again."""
    found = dataclasses.replace(stage(first, study, verdicts=[verdict()]), metric=OWN, tried=tuple(tried))
    repeated = (Repeated(0, first, again, counts_first=True),) if again else ()
    return dataclasses.replace(
        found, repeated=repeated, best=dataclasses.replace(found.best, params={"lr": 3e-4}, attrs=dict(attrs))
    )


@pytest.mark.parametrize(
    ("before", "last", "go_on", "said"),
    [
        (
            called("fine", 0.9, 0.8),
            called("fine-2", 0.88, 0.86),
            True,
            "fine-2 gained 0.0200 of score over fine in the mean of their calls: more than 0.0085, 1% of it",
        ),
        (
            called("fine", 0.99, 0.95),
            called("fine-2", 1.0, 0.8),
            False,
            "fine-2 reached 0.0700 worse score than fine in the mean of their calls",
        ),
        (
            called("coarse", 0.99),
            called("fine", 0.94, 0.92),
            False,
            "fine holds 0.9300 of score in the mean of 2 calls; coarse reached 0.9900 in one call, which may be luck",
        ),
        (
            called("coarse", 0.928),
            called("fine", 0.94, 0.92),
            False,
            "gained 0.0020 of score over coarse: less than 0.00928, 1% of it; the best of coarse was called once",
        ),
        (called("coarse", 0.9), called("fine", 0.94, 0.92), True, "fine gained 0.0300 of score over coarse: more than"),
        (
            called("fine", 0.94, 0.92),
            called("fine-2", 0.99),
            True,
            "more than 0.0093, 1% of it; but the best of fine-2 was called once, so it may be luck",
        ),
        (
            called("coarse", 0.99),
            called("fine", 0.94, 0.92, tried=[TriedAgain("coarse", {"lr": 3e-4}, (0.8, 0.79))]),
            True,
            "fine gained 0.0700 of score over coarse in the mean of their calls: more than 0.0086",
        ),
        (
            called("coarse", 0.99),
            called("fine", 0.94, 0.92, tried=[TriedAgain("coarse", {"lr": 2e-4}, (0.8,))]),  # not its best
            False,
            "coarse reached 0.9900 in one call, which may be luck",
        ),
        (
            called("coarse", 0.99),
            called("fine", 0.94, 0.92, tried=[TriedAgain("coarse", {"lr": 3e-4}, (None,))]),
            False,
            "the best of coarse, 0.9900 at first, gave no value when fine called it again",
        ),
        (
            called("coarse", 0.99),
            called("fine", 0.98, 0.97, attrs={"tried in": "coarse"}),
            False,
            "fine found nothing better than a trial of coarse, which it called again",
        ),
    ],
)
def test_a_lucky_first_value_is_no_measure_for_a_mean(before, last, go_on, said):
    decision = decide([before, last], 1, Limits())
    assert said in decision.reason
    assert decision.go_on == go_on
    assert "worse" not in decision.reason or "in the mean of their calls" in decision.reason


def test_a_trial_that_gave_no_value_again_is_neither_the_best_nor_to_be_called_once_more():
    failed = (TriedAgain("coarse", {"lr": 3e-4}, (None,)),)
    coarse = called("coarse", 0.99)
    for fine in (called("fine", 0.9, tried=failed), called("fine", 0.94, 0.92, tried=failed)):
        assert best_stage([coarse, fine]) == fine
        assert what_next([coarse, fine]).command == "hpsearch rerun fine 0"
    assert best_stage([coarse]) == coarse
    assert best_stage([coarse, called("fine", 0.9)]) == coarse


def test_a_better_value_of_one_call_is_said_where_nothing_was_gained():
    ahead = dataclasses.replace(stage(0.99).best, number=9)
    last = dataclasses.replace(called("fine", 0.94, 0.92, attrs={"tried in": "coarse"}), ahead_once=ahead)
    reason = decide([called("coarse", 0.95), last], 1, Limits()).reason
    assert "fine found nothing with a better mean than a trial of coarse, which it called again" in reason
    assert "its trial 9 reached 0.9900 in one call, which may be luck" in reason
    gained = dataclasses.replace(called("fine", 0.94, 0.92), ahead_once=ahead)
    assert "trial 9" not in decide([called("coarse", 0.5), gained], 1, Limits()).reason


def test_of_better_values_of_one_call_the_best_is_looked_at_that_no_stage_has_called_since():
    def trial(number, value):
        return dataclasses.replace(stage(value).best, number=number, params={"lr": 0.1 * number})

    fine = dataclasses.replace(called("fine", 0.94, 0.92), ahead_once=trial(5, 0.97))
    after = dataclasses.replace(called("fine-2", 0.93, 0.91), ahead_once=trial(9, 0.96))
    lower = dataclasses.replace(after, ahead_once=trial(9, 0.925))  # ahead of its own stage's mean alone
    tried = dataclasses.replace(after, tried=(TriedAgain("fine", {"lr": 0.5}, (0.8,)),))
    assert ahead_of(fine, [fine, after]) == (fine, fine.ahead_once)
    assert ahead_of(fine, [fine, tried]) == (tried, tried.ahead_once)
    assert ahead_of(fine, [dataclasses.replace(fine, ahead_once=None), lower]) is None
    assert ahead_of(called("coarse", 0.9), [fine, after]) is None


def test_what_the_best_of_a_stage_gave_later_is_said_beside_its_first_value():
    coarse, tried = called("coarse", 0.99), [TriedAgain("coarse", {"lr": 3e-4}, (0.8, None))]
    later = [called("fine", 0.9), called("fine-2", 0.94, 0.92, tried=tried)]
    assert called_later_text(coarse, later) == " (called again in fine-2: 0.8000, none)"
    assert called_later_text(coarse, later[:1]) == ""


def test_a_coarse_stage_without_a_whole_trial_is_narrowed_by_those_that_were_stopped():
    stopped = StoppedTrials(8, 3, 0.9, "3 epochs", spent=False, num_exploded=2, first_explosion=5)
    none = dataclasses.replace(stage(None, "coarse", "coarse"), stopped=stopped)
    decision = decide([none], 100, Limits())
    assert decision.go_on
    assert decision.reason.startswith("no trial of coarse came to its last epoch: narrow to where")
    assert decide([none], 100, Limits(), time_is_up=True).ending == "time"
    assert decide([none], 100, Limits(max_stages=1)).ending == "nothing"
    again = dataclasses.replace(none, study="fine", stage="fine")
    assert decide([none, again], 100, Limits()).ending == "nothing"
    assert "first stage with a result" in decide([none, stage(0.6)], 100, Limits()).reason


def test_nets_are_compared_by_means_where_both_were_trained_again():
    before, last = called("fine", 0.9, 0.8, 0.8), called("fine-2", 0.95, 0.85, 0.85)
    by_seeds = [
        dataclasses.replace(
            each, metric=ACCURACY, repeated=(dataclasses.replace(each.repeated[0], counts_first=False),)
        )
        for each in (before, last)
    ]
    assert "fine-2 gained 0.0500 over fine in the mean of their calls" in decide(by_seeds, 10_000, Limits()).reason
    once = [by_seeds[0], dataclasses.replace(by_seeds[1], repeated=())]
    assert "fine-2 gained 0.0500 over fine: more" in decide(once, 10_000, Limits()).reason


def test_guessing_explains_no_other_measure_than_the_accuracy():
    images = KeptImages(num_classes=2, num_val=1000, largest_share=0.97)
    [coarse] = by(F1, 0.6)
    assert luck_text([dataclasses.replace(coarse, images=images)]) is None
    assert luck_text([dataclasses.replace(coarse, images=images, metric=ACCURACY)]) is not None
