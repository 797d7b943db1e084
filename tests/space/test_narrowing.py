import math
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hpsearch.config import Choice, FloatRange, IntRange
from hpsearch.space import Observation, narrow
from hpsearch.space.narrowing import no_limits
from hpsearch.space.scale import on_grid

LR = FloatRange(1e-6, 1e-3, log=True)
UNIT = FloatRange(0.0, 1.0)
ANY = FloatRange(-1.0, 1.0)  # of what may be anything: no end is natural for it

COARSE_TABLE = [  # PROCEDURE: val_acc, lr, reg
    (0.412, 1.405206e-04, 4.793564e-01),
    (0.214, 7.231888e-06, 2.321281e-04),
    (0.208, 2.119571e-06, 8.011857e01),
    (0.196, 1.551131e-05, 4.374936e-05),
    (0.079, 1.753300e-05, 1.200424e03),
    (0.223, 4.215128e-05, 4.196174e01),
    (0.441, 1.750259e-04, 2.110807e-04),
    (0.241, 6.749231e-05, 4.226413e01),
    (0.482, 4.296863e-04, 6.642555e-01),
    (0.079, 5.401602e-06, 1.599828e04),
    (0.154, 1.618508e-06, 4.925252e-01),
]


def trials(values, outcome="complete", start=0, name="x"):
    """Observations from (parameter, value) pairs."""
    return [Observation(start + i, {name: x}, value, outcome) for i, (x, value) in enumerate(values)]


def narrow_x(range_, observations, direction="maximize", limits=(None, None), stays_as=""):
    [narrowing] = narrow({"x": range_}, observations, direction, lambda name: limits, stays_as)
    return narrowing


def decades(range_):
    return math.log10(range_.high / range_.low)


def test_coarse_reference_table():
    ranges = {"lr": LR, "reg": FloatRange(1e-5, 1e5, log=True)}
    observations = [
        Observation(i, {"lr": lr, "reg": reg}, acc, "complete") for i, (acc, lr, reg) in enumerate(COARSE_TABLE)
    ]
    lr, reg = narrow(ranges, observations, "maximize")
    for _, top_lr, top_reg in sorted(COARSE_TABLE, reverse=True)[:3]:
        assert lr.new.low <= top_lr <= lr.new.high
        assert reg.new.low <= top_reg <= reg.new.high
    assert lr.new.low >= 1e-5
    assert decades(lr.new) <= 2
    assert decades(reg.new) <= 6
    assert lr.old == LR
    assert lr.reason == "the top 3 of 11 lie in [1.4e-04, 4.3e-04]"


def test_design_example():
    """77 finished, 23 exploded above 0.72: the top ten decide, and the range ends where all explode."""
    range_ = FloatRange(1e-5, 1.0, log=True)
    finished = [(10 ** (-5 + 4.85 * i / 76), 0.9 - abs(i - 70.1) / 100) for i in range(77)]
    exploded = [(0.72 + i / 100, None) for i in range(23)]
    result = narrow_x(range_, trials(finished) + trials(exploded, "exploded", 77))
    assert result.reason.startswith("the top 10 of 77 lie in [")
    assert result.reason.endswith("; above 7.2e-01 every trial exploded")
    assert result.new.high <= 0.72
    assert result.new.low > 1e-2


@pytest.mark.parametrize(
    ("range_", "values", "low", "high"),
    [
        # 9 trials: the expected gap between two of them, a tenth of the width, on each side of the top 3.
        (UNIT, [(i / 10, -abs(i - 5)) for i in range(1, 10)], 0.3, 0.7),
        # 99 trials: the smallest pad, on each side of the top 13.
        (UNIT, [(i / 100, -abs(i - 50)) for i in range(1, 100)], 0.39, 0.61),
        (
            FloatRange(1e-4, 1.0, log=True),
            [(10 ** (-4 + i / 4), -abs(i - 8)) for i in range(1, 16)],
            10**-2.5,
            10**-1.5,
        ),
        # One trial in the middle tells nothing; the old ends stay to the last digit.
        (UNIT, [(0.5, 1)], 0.0, 1.0),
        (FloatRange(3e-5, 7e-1, log=True), [(math.sqrt(3e-5 * 7e-1), 1)], 3e-5, 7e-1),
        # Equal values are equal evidence.
        (UNIT, [(i / 10, 7.0) for i in (3, 9, 1, 5, 6)], 0.0, 1.0),
        # A hundred trials at one place: padded on both sides.
        (UNIT, [(0.5, 1)] * 100, 0.45, 0.55),
    ],
)
def test_interval_around_the_top(range_, values, low, high):
    new = narrow_x(range_, trials(values)).new
    assert (new.low, new.high) == pytest.approx((low, high))
    for end, old, expected in ((new.low, range_.low, low), (new.high, range_.high, high)):
        if expected == old:
            assert end == old


def test_ties_with_the_last_of_the_top_are_in_it():
    values = [(0.5, 3), (0.52, 2), (0.4, 1), (0.8, 1), (0.1, 0), (0.9, 0), (0.2, 0)]
    result = narrow_x(UNIT, trials(values))
    assert result.reason == "the top 4 of 7 lie in [0.4, 0.8]"


def test_best_of_equal_values_is_the_first():
    values = [(0.5, 1), (1.0, 1), (0.0, 1)]
    assert narrow_x(UNIT, trials(values)).new == UNIT
    assert narrow_x(UNIT, list(reversed(trials(values)))).new == UNIT
    assert narrow_x(ANY, trials([(1.0, 1), (0.0, 1), (-1.0, 1)])).new == FloatRange(-1.0, 2.0)


def test_floor_of_a_log_range_is_a_factor_of_two():
    near = [(1e-2 * (1 + i / 1000), 1 - i / 1000) for i in range(100)]
    new = narrow_x(FloatRange(5e-3, 2e-2, log=True), trials(near)).new
    assert decades(new) == pytest.approx(math.log10(2))
    assert new.low <= 1e-2 <= new.high


def test_floor_gives_way_to_the_old_range():
    range_ = FloatRange(1e-2, 1.5e-2, log=True)
    assert narrow_x(range_, trials([(1.2e-2, 1)] * 100)).new == range_


def test_floor_widens_away_from_an_edge():
    """Room is only on the other side of the explosions."""
    range_ = FloatRange(1e-3, 1e-1, log=True)
    observations = trials([(1.9e-2, 1)] * 100) + trials([(2e-2, None)] * 9, "exploded", 100)
    new = narrow_x(range_, observations).new
    assert new.high == pytest.approx(2e-2)
    assert new.low == pytest.approx(1e-2)


class TestBoundary:
    @pytest.mark.parametrize(
        ("best", "low", "high"),
        [
            (-1.0, -2.0, 0.0),
            (-0.9, -2.0, 0.1),
            (-0.88, -1.0, 0.12),
            (0.88, -0.12, 1.0),
            (0.9, -0.1, 2.0),
            (1.0, 0.0, 2.0),
        ],
    )
    def test_range_moves_past_the_end(self, best, low, high):
        result = narrow_x(ANY, trials([(best, 1)]))
        assert (result.new.low, result.new.high) == pytest.approx((low, high))
        assert ("the range moves past it" in result.reason) == (low < -1 or high > 1)

    def test_log_ranges_move_in_decades(self):
        new = narrow_x(FloatRange(1e-4, 1e-2, log=True), trials([(1e-4, 1), (1e-3, 0)])).new
        assert new.low == pytest.approx(1e-5)

    @pytest.mark.parametrize(
        ("range_", "best", "limits", "low", "words"),
        [
            (UNIT, 0.01, (0.0, None), 0.0, "no lower value is allowed"),
            (UNIT, 0.01, (-0.25, None), -0.25, "moves past it"),
            (FloatRange(1e-2, 1.0, log=True), 1e-2, (0.0, None), 1e-3, "moves past it"),
            (IntRange(1, 9), 1, (1.0, None), 1, "no lower value is allowed"),
            (IntRange(1, 64, log=True), 1, (None, 99.0), 1, "no lower value is allowed"),
        ],
    )
    def test_hard_limits(self, range_, best, limits, low, words):
        result = narrow_x(range_, trials([(best, 1)]), limits=limits)
        assert result.new.low == pytest.approx(low)
        assert words in result.reason

    @pytest.mark.parametrize(
        ("range_", "best", "ends", "words"),
        [
            (IntRange(1, 6), 1, (1, 4), "no lower value is natural for it"),
            (IntRange(1, 6), 6, (3, 9), "moves past it"),
            (IntRange(0, 1), 1, (0, 1), "no higher value is natural for it"),
            (IntRange(1, 64, log=True), 1, (1, 8), "no lower value is natural for it"),
            (FloatRange(0.0, 0.99), 0.99, (0.495, 0.999), "moves past it"),
            (UNIT, 1.0, (0.5, 1.0), "no higher value is natural for it"),
            (UNIT, 0.0, (0.0, 0.5), "no lower value is natural for it"),
            (FloatRange(0.5, 2.5), 0.5, (0.05, 1.5), "moves past it"),
            (FloatRange(0.0, 1.0, step=0.25), 0.0, (0.0, 0.5), "no lower value is natural for it"),
        ],
    )
    def test_what_is_natural_holds_where_nothing_else_is_known(self, range_, best, ends, words):
        result = narrow_x(range_, trials([(best, 1)]))
        assert (result.new.low, result.new.high) == pytest.approx(ends)
        assert result.reason.endswith(words)

    def test_what_is_known_of_a_parameter_wins_over_what_is_natural(self):
        assert narrow_x(UNIT, trials([(1.0, 1)]), limits=(0.0, None)).new.high == 1.5  # a scale, say, not a share

    def test_a_log_range_moves_by_a_decade_where_few_trials_speak_for_more(self):
        """Three trials of four near the low end were reason enough to search 2.5 decades lower."""
        values = [(1.1e-5, 4), (1.3e-5, 3), (2e-5, 2), (1e-2, 1)]
        result = narrow_x(FloatRange(1e-5, 1.0, log=True), trials(values))
        assert result.new.low == pytest.approx(1e-6)
        assert "moves past it" in result.reason

    def test_a_log_range_moves_by_half_of_itself_where_the_top_crowds_at_its_end(self):
        values = [(10 ** (-i / 20), -i) for i in range(101)]  # five decades, the better the higher
        assert narrow_x(FloatRange(1e-5, 1.0, log=True), trials(values)).new.high == pytest.approx(10**2.5)
        assert narrow_x(IntRange(1, 10**4, log=True), trials([(10**4, 2), (10, 1)])).new.high == pytest.approx(1e5)

    def test_open_limit_below_one(self):
        result = narrow_x(FloatRange(0.5, 0.99), trials([(0.99, 1)]), limits=(0.0, 1 - 1e-6))
        assert result.new.high == 1 - 1e-6

    def test_range_does_not_move_into_explosions(self):
        observations = trials([(0.01 * i, i) for i in range(95)]) + trials(
            [(0.98 + i / 1000, None) for i in range(9)], "exploded", 95
        )
        result = narrow_x(FloatRange(0.0, 0.96), observations)
        assert result.new.high == 0.98
        assert "moves past it" in result.reason
        result = narrow_x(UNIT, observations)
        assert result.new.high == 0.98
        result = narrow_x(FloatRange(0.0, 0.98), observations)
        assert result.new.high == 0.98
        assert "the range ends where trials explode" in result.reason

    def test_best_outside_the_range(self):
        """An enqueued value may be anywhere; the range moves past it, and the pad of the next best stays."""
        above = narrow_x(UNIT, trials([(2.0, 9), (0.6, 1)])).new
        assert (above.low, above.high) == pytest.approx((0.6 - 1 / 3, 2.5))
        below = narrow_x(UNIT, trials([(-3.0, 9), (0.4, 1)])).new
        assert (below.low, below.high) == pytest.approx((-3.5, 0.4 + 1 / 3))


class TestExplosions:
    def test_two_of_seven_at_the_end_are_evidence(self):
        finished = [(0.1 * i, 1) for i in range(1, 6)]
        exploded = trials([(0.8, None), (0.6, None)], "exploded", 10)
        result = narrow_x(UNIT, trials(finished) + exploded)
        assert result.new.high == 0.6
        assert result.reason == "the top 5 of 5 lie in [0.1, 0.5]; above 0.6 every trial exploded"

    @pytest.mark.parametrize(
        ("finished", "exploded"),
        [
            ([0.02 * i for i in range(30)], [0.7]),  # one alone proves nothing
            ([0.1, 0.2, 0.5], [0.7, 0.8]),  # 1 in 10 by chance
            ([0.1, 0.2, 0.3, 0.4, 0.9], [0.7, 0.8]),  # one above them finished
            ([0.5], [0.1, 0.2, 0.3, 0.7, 0.8, 0.9]),  # another parameter explodes nearly everywhere
        ],
    )
    def test_what_chance_explains_is_no_edge(self, finished, exploded):
        observations = trials([(x, 1) for x in finished]) + trials([(x, None) for x in exploded], "exploded", 50)
        assert "exploded" not in narrow_x(UNIT, observations).reason

    def test_most_exploded(self):
        """Two survivors of 20, both the lowest, are no chance, although the share of explosions is 0.9."""
        observations = trials([(0.1, 1), (0.12, 2)]) + trials([(0.2 + i / 50, None) for i in range(18)], "exploded", 2)
        result = narrow_x(UNIT, observations)
        assert "above 0.2 every trial exploded" in result.reason
        assert result.new.high == 0.2

    def test_low_end(self):
        finished = [(0.1 * i, 1) for i in range(4, 9)]
        result = narrow_x(UNIT, trials(finished) + trials([(0.1, None), (0.3, None)], "exploded", 10))
        assert result.new.low == 0.3
        assert "below 0.3 every trial exploded" in result.reason

    def test_pruned_trials_count_as_survivors(self):
        finished = trials([(0.1 * i, 1) for i in range(1, 6)]) + trials([(0.95, 0.1)], "pruned", 20)
        result = narrow_x(UNIT, finished + trials([(0.8, None), (0.7, None)], "exploded", 10))
        assert "exploded" not in result.reason

    def test_ints_end_before_the_first_explosion(self):
        finished = [(i, i) for i in range(1, 8)]
        result = narrow_x(IntRange(1, 10), trials(finished) + trials([(9, None), (10, None)], "exploded", 10))
        assert result.new.high == 8
        assert "above 8 every trial exploded" in result.reason

    def test_their_values_are_never_the_top(self):
        observations = trials([(0.4, 1), (0.5, 2), (0.6, 1)]) + trials([(0.9, 99)], "exploded", 3)
        assert narrow_x(UNIT, observations).reason == "the top 3 of 3 lie in [0.4, 0.6]"


class TestWithoutFinishedTrials:
    def test_pruned_stand_in(self):
        result = narrow_x(UNIT, trials([(0.1 * i, -abs(i - 5)) for i in range(1, 10)], "pruned"))
        assert result.reason == "no trial finished; the top 3 of 9 pruned lie in [0.4, 0.6]"
        assert (result.new.low, result.new.high) == pytest.approx((0.3, 0.7))

    def test_a_finished_trial_beats_all_pruned(self):
        observations = trials([(0.9, 5)] * 9, "pruned") + trials([(0.5, 1)], start=9)
        assert narrow_x(UNIT, observations).reason == "the only finished trial lies at 0.5"

    def test_halved_trials_are_ranked_among_the_finished(self):
        finished = trials([(0.2, 0.9), (0.9, 0.1)])  # one of them was the first that came to its rungs
        halved = [replace(each, halved=True) for each in trials([(0.25, 0.8), (0.3, 0.7), (0.7, 0.2)], "pruned", 2)]
        pruned = trials([(0.6, 0.95)], "pruned", 5)  # by who knows what, after epochs that say nothing of the others
        result = narrow_x(UNIT, finished + halved + pruned)
        assert result.reason == "the top 3 of 5 finished or halved lie in [0.2, 0.3]"
        assert result.new.high < 0.6

    def test_halved_trials_stand_in_as_pruned_ones_do(self):
        halved = [replace(each, halved=True) for each in trials([(0.4, 0.8), (0.5, 0.7)], "pruned")]
        none_whole = "no trial came to its last epoch; "
        assert narrow_x(UNIT, halved).reason == f"{none_whole}the top 2 of 2 stopped at a rung lie in [0.4, 0.5]"
        assert narrow_x(UNIT, halved[:1]).reason == f"{none_whole}the only trial stopped at a rung lies at 0.4"
        pruned = trials([(0.6, 0.95)], "pruned", 5)
        assert narrow_x(UNIT, halved + pruned).reason == "no trial finished; the top 3 of 3 pruned lie in [0.4, 0.6]"

    def test_all_exploded(self):
        result = narrow_x(UNIT, trials([(0.1 * i, 0.0) for i in range(9)], "exploded"))
        assert (result.new, result.reason) == (UNIT, "every trial exploded")

    @pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
    def test_unusable_values(self, value):
        result = narrow_x(UNIT, trials([(0.5, value)] * 4))
        assert (result.new, result.reason) == (UNIT, "no trial finished with a usable result")

    def test_no_trials(self):
        result = narrow_x(UNIT, [])
        assert (result.new, result.reason) == (UNIT, "no trial has a value of it")


class TestOtherRanges:
    def test_single_value_stays(self):
        for range_ in (FloatRange(0.1, 0.1), IntRange(3, 3, log=True), Choice(("a",)), IntRange(0, 3, step=5)):
            result = narrow_x(range_, trials([(0.2, 1)]))
            assert (result.new, result.reason) == (range_, "a single value")

    @pytest.mark.parametrize(
        ("range_", "values", "new"),
        [
            (IntRange(1, 20), [(i, -abs(i - 9)) for i in range(1, 21)], IntRange(7, 11)),
            (IntRange(1, 1024, log=True), [(2**i, -abs(i - 5)) for i in range(11)], IntRange(8, 115, log=True)),
            (IntRange(0, 100, step=10), [(10 * i, -abs(i - 5)) for i in range(11)], IntRange(30, 70, step=10)),
            (
                FloatRange(0.0, 1.0, step=0.1),
                [(i / 10, -abs(i - 5)) for i in range(11)],
                FloatRange(0.3, 0.7, step=0.1),
            ),
            (IntRange(1, 2), [(1, 0), (2, 1)], IntRange(1, 3)),
            # The grid of [0, 10] in threes ends at 9: a best of 9 is on its boundary.
            (IntRange(0, 10, step=3), [(9, 1)], IntRange(3, 15, step=3)),
            (IntRange(0, 10, step=3), [(6, 1), (3, 1)], IntRange(0, 9, step=3)),
        ],
    )
    def test_ends_snap_outwards(self, range_, values, new):
        assert narrow_x(range_, trials(values)).new == new

    def test_choice_keeps_what_is_among_the_top(self):
        kinds = ["sgd", "adam", "adam", "momentum", "momentum", "sgd"]
        result = narrow_x(
            Choice(("sgd", "momentum", "adam")), trials(list(zip(kinds, [0, 9, 8, 7, 1, 2], strict=True)))
        )
        assert result.new == Choice(("momentum", "adam"))
        assert result.reason == "the top 3 of 6 have momentum, adam; dropped: sgd"

    def test_choice_of_lists_and_strangers(self):
        choice = Choice(((50,), (50, 20), (100,)))
        observed = [([50, 20], 3), ((50, 20), 2), ("adam", 9)]
        result = narrow_x(choice, trials(observed))
        assert result.new == Choice(((50, 20),))
        assert result.reason == "the top 2 of 2 have [50, 20]; dropped: [50], [100]"

    def test_choice_with_only_strangers(self):
        assert narrow_x(Choice((1, 2)), trials([(True, 1), ("1", 1)])).new == Choice((1, 2))

    def test_conditional_parameters(self):
        """A parameter counts the trials that have it."""
        observations = [
            *trials([(0.5, 9.0)], name="y"),
            *trials([(0.1 * i, -abs(i - 5)) for i in range(1, 10)], start=1),
            Observation(11, {"x": "wide"}, 99.0, "complete"),
        ]
        x, z = narrow({"x": UNIT, "z": UNIT}, observations, "maximize")
        assert x.reason == "the top 3 of 9 lie in [0.4, 0.6]"
        assert (z.new, z.reason) == (UNIT, "no trial has a value of it")

    def test_values_that_a_log_range_cannot_hold(self):
        assert narrow_x(LR, trials([(0.0, 1), (-1e-4, 1)])).new == LR


class TestRangesThatStay:
    def test_all_of_it_stays_and_the_reason_says_why(self):
        result = narrow_x(UNIT, trials([(x / 10, -abs(x - 4)) for x in range(11)]), stays_as="all is known")
        assert result.new == UNIT
        assert result.reason == "the top 3 of 11 lie in [0.3, 0.5]; all of it stays, as all is known"

    def test_it_ends_where_trials_explode(self):
        exploded = trials([(0.8, None), (0.85, None), (0.9, None), (0.95, None)], "exploded", start=9)
        result = narrow_x(UNIT, trials([(x / 10, x if x < 4 else -x) for x in range(8)]) + exploded, stays_as="known")
        assert (result.new.low, result.new.high) == (0.0, 0.8)

    def test_choices_stay_whole(self):
        result = narrow_x(Choice(("a", "b")), trials([("a", 9), ("a", 8), ("a", 7), ("b", 1)]), stays_as="all is known")
        assert result.new == Choice(("a", "b"))
        assert result.reason == "the top 3 of 4 have a; all stay, as all is known"


def test_as_dict():
    assert narrow_x(LR, []).as_dict() == {
        "param": "x", "old": [1e-6, 1e-3], "new": [1e-6, 1e-3], "reason": "no trial has a value of it",
    }  # fmt: skip
    assert narrow_x(Choice(((50,), (100,))), trials([((50,), 1)])).as_dict()["new"] == [[50]]


# Properties


def linear(low, width):
    return FloatRange(low, low + width)


def logarithmic(low, width):
    return FloatRange(10**low, 10 ** (low + width), log=True)


def whole(low, width, log=False):
    return IntRange(low, low + width, log=log)


def stepped(kind, low, step, num_steps):
    return on_grid(kind(low, low + step * num_steps, step=step))


number_ranges = st.one_of(
    st.builds(linear, st.floats(-100, 100), st.floats(1e-3, 100)),
    st.builds(logarithmic, st.floats(-8, 2), st.floats(0.05, 9)),
    st.builds(whole, st.integers(-50, 50), st.integers(1, 60)),
    st.builds(whole, st.integers(1, 50), st.integers(1, 5000), st.just(True)),
    st.builds(stepped, st.just(IntRange), st.integers(-9, 9), st.integers(1, 7), st.integers(2, 40)),
    st.builds(stepped, st.just(FloatRange), st.integers(-9, 9), st.sampled_from([0.1, 0.25, 0.3]), st.integers(1, 40)),
)


@st.composite
def searches(draw, *, inside=True):
    """A range and trials in it; with `inside=False` some lie up to one width outside, as enqueued ones may."""
    range_ = draw(number_ranges)
    margin = 0.0 if inside else 1.0
    observations = []
    for number in range(draw(st.integers(1, 25))):
        unit = draw(st.floats(-margin, 1 + margin))
        x = value_at(range_, unit)
        value = draw(st.one_of(st.integers(0, 5).map(float), st.floats(-1, 1), st.just(math.nan)))
        outcome = draw(st.sampled_from(["complete", "complete", "pruned", "exploded"]))
        observations.append(Observation(number, {"x": x}, value, outcome))
    return range_, observations


def value_at(range_, unit):
    if range_.log:
        x = range_.low * (range_.high / range_.low) ** unit
        return max(1, round(x)) if isinstance(range_, IntRange) else x
    x = range_.low + unit * (range_.high - range_.low)
    return x if range_.step is None else range_.low + round((x - range_.low) / range_.step) * range_.step


def best_of(observations):
    for outcome in ("complete", "pruned"):
        usable = [o for o in observations if o.outcome == outcome and math.isfinite(o.value)]
        if usable:
            return max(usable, key=lambda o: (o.value, -o.number)).params["x"]
    return None


def tolerance(range_):
    return 1e-9 * max(1.0, abs(range_.low), abs(range_.high)) if not range_.log else 1e-9 * range_.low


@settings(deadline=None, max_examples=50)
@given(searches(inside=False))
def test_best_stays_inside(search):
    range_, observations = search
    new = narrow_x(range_, observations).new
    best = best_of(observations)
    assert new.low <= new.high
    if best is None:
        assert new == range_
    else:
        assert new.low - tolerance(range_) <= best <= new.high + tolerance(range_)
        if range_.step is None:
            assert new.low <= best <= new.high


@settings(deadline=None, max_examples=40)
@given(searches(inside=False), st.floats(-0.5, 0.4), st.floats(0.6, 1.5))
def test_hard_limits_hold(search, low, high):
    range_, observations = search
    limits = value_at(range_, low), value_at(range_, high)
    if range_.step is not None:
        limits = math.floor(limits[0]), math.ceil(limits[1])
    observations = [o for o in observations if limits[0] <= o.params["x"] <= limits[1]]
    if best_of(observations) is not None:
        new = narrow_x(range_, observations, limits=limits).new
        assert limits[0] - tolerance(range_) <= new.low <= new.high <= limits[1] + tolerance(range_)
        if range_.step is None:
            assert limits[0] <= new.low <= new.high <= limits[1]


@settings(deadline=None, max_examples=40)
@given(searches())
@example((IntRange(11, 322, log=True), [Observation(number=0, params={"x": 11}, value=0.0, outcome="complete")]))
def test_natural_limits_hold_where_all_trials_do(search):
    range_, observations = search
    new, slack = narrow_x(range_, observations).new, tolerance(range_)
    if isinstance(range_, IntRange):
        for least in (0, 1):
            assert new.low >= least or range_.low < least
    elif not range_.log:
        assert new.low >= 0 or range_.low < 0
        assert new.low > 0 or range_.low <= 0
        if range_.low >= 0 and range_.high <= 1:
            assert new.high <= 1
            assert new.high < 1 or range_.high == 1
    if range_.log:
        furthest = 5 if len(observations) >= 7 else 1  # decades; half of ten, where the top crowds
        step = 1 if isinstance(range_, IntRange) else 0  # whole numbers round outwards: a tenth of 11 is 1
        assert (new.low + step) * 10**furthest >= range_.low - slack
        assert new.high <= range_.high * 10**furthest * (1 + 1e-9) + step


@settings(deadline=None, max_examples=50)
@given(st.just(0.0) | st.floats(1e-300, 0.9), st.floats(0.05, 1), st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_no_number_of_stages_leads_out_of_what_is_natural(low, width, units):
    """Each stage has its best anywhere in the range of the one before: on an end, over and over, too."""
    range_ = FloatRange(low, min(1.0, low + width))
    excluded = range_.low > 0, range_.high < 1
    for unit in units * 3:
        range_ = narrow_x(range_, trials([(value_at(range_, unit), 1)])).new
        assert 0 <= range_.low <= range_.high <= 1
        assert (range_.low > 0, range_.high < 1) >= excluded


@settings(deadline=None, max_examples=40)
@given(searches(inside=False))
def test_a_range_that_stays_moves_outwards_as_one_that_narrows_does(search):
    range_, observations = search
    narrowed, kept = narrow_x(range_, observations).new, narrow_x(range_, observations, stays_as="known").new
    slack = tolerance(range_)
    assert kept.low <= narrowed.low + slack
    assert kept.high >= narrowed.high - slack
    assert kept.low >= min(narrowed.low, range_.low) - slack
    assert kept.high <= max(narrowed.high, range_.high) + slack
    if not any(seen.outcome == "exploded" for seen in observations):
        assert kept.low <= range_.low
        assert kept.high >= range_.high


@settings(deadline=None, max_examples=40)
@given(searches())
def test_new_lies_within_old_unless_the_best_is_on_the_boundary(search):
    range_, observations = search
    result = narrow_x(range_, observations)
    past_low, past_high = result.new.low < range_.low, result.new.high > range_.high
    assert past_low == ("lower boundary: the range moves past it" in result.reason)
    assert past_high == ("upper boundary: the range moves past it" in result.reason)
    assert type(result.new) is type(range_)
    assert (result.new.log, result.new.step) == (range_.log, range_.step)


@settings(deadline=None, max_examples=40)
@given(searches(inside=False))
def test_minimize_mirrors_maximize(search):
    range_, observations = search
    negated = [Observation(o.number, o.params, -o.value, o.outcome) for o in observations]
    assert narrow_x(range_, observations) == narrow_x(range_, negated, "minimize")
    assert narrow_x(range_, observations) == narrow_x(range_, observations[::-1])


@settings(deadline=None, max_examples=40)
@given(searches())
def test_floor(search):
    range_, observations = search
    finished = [o for o in observations if o.outcome == "complete"]
    new = narrow_x(range_, finished).new
    if isinstance(range_, IntRange):
        assert new.high - new.low >= range_.step
    elif range_.log:
        assert decades(new) >= min(math.log10(2), decades(range_)) - 1e-9
    else:
        assert new.high - new.low >= (range_.high - range_.low) / 10 - 1e-9 * (abs(range_.low) + abs(range_.high))


def test_no_limits_is_the_default():
    observations = trials([(1.0, 1)])
    assert narrow({"x": UNIT}, observations, "maximize") == narrow({"x": UNIT}, observations, "maximize", no_limits)
