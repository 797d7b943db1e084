"""Which trial is called again in the last part of a stage."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpsearch.analysis.called_again import Called, TriedAgain, best_called_first, calls_of, repeats_among, tried_again
from hpsearch.analysis.repeats import by_mean
from hpsearch.analysis.study_trials import best_trial
from hpsearch.config import load_settings
from hpsearch.errors import ConfigError
from hpsearch.stages.confirming import candidates, first_number, num_calls, params_tried, seed_of_call, to_call_again
from hpsearch.stages.earlier_trials import EarlierTrial
from hpsearch.storage import TrialRow


def row(number, value, again=None, state="COMPLETE"):
    attrs = {} if again is None else {"again": again}
    return TrialRow(number, number, state, value, {"lr": 0.1}, attrs=attrs)


def test_the_leader_is_called_until_it_has_been_so_often():
    calls = [Called(0, 0.9), Called(1, 0.89)]
    assert to_call_again(calls, 3, "maximize") == 0
    assert to_call_again([Called(0, 0.9, {2: 0.8, 3: 1.0}), calls[1]], 3, "maximize") == 0
    assert to_call_again([Called(0, 0.9, {2: 0.8, 3: 1.0, 4: 0.9}), calls[1]], 3, "maximize") is None


def test_one_that_falls_behind_is_left_for_the_next():
    assert to_call_again([Called(0, 0.9, {2: 0.7}), Called(1, 0.89)], 3, "maximize") == 1
    assert to_call_again([Called(0, 0.1, {2: 0.3}), Called(1, 0.11)], 3, "minimize") == 1


def test_of_equals_one_of_this_stage_is_called_before_those_of_earlier_ones():
    """Else each of many that reach the highest value is called once, and none holds."""
    earlier = [EarlierTrial("coarse", 20, {"lr": 0.1 * place}, 1.0) for place in range(3)]
    calls = [Called(3, 1.0), Called(5, 1.0), Called(7, 0.9)]
    assert to_call_again(candidates(calls, earlier, [], 20), 1, "maximize") == 3
    assert to_call_again(candidates([Called(3, 1.0, {8: 1.0}), *calls[1:]], earlier, [], 20), 1, "maximize") is None
    assert to_call_again(candidates(calls[2:], earlier, [], 20), 1, "maximize") == -1


def test_the_search_goes_on_while_calls_of_the_leader_are_under_way():
    calls = [Called(0, 0.9, num_running=3), Called(1, 0.89, num_running=1)]
    assert to_call_again(calls, 3, "maximize") is None
    assert to_call_again([Called(0, 0.9, {2: 0.8}, num_running=1), Called(1, 0.84)], 3, "maximize") == 0
    assert to_call_again([Called(0, 0.9, {2: 0.8}, num_running=2), Called(1, 0.84)], 3, "maximize") is None
    assert to_call_again([Called(0, 0.9, {2: 0.7}, num_running=2), Called(1, 0.84)], 3, "maximize") == 1


def test_so_it_does_while_the_first_call_of_an_earlier_stages_leader_is_under_way():
    earlier = [EarlierTrial("coarse", 20, {"lr": 0.1}, 0.95), EarlierTrial("coarse", 20, {"lr": 0.2}, 0.94)]
    calls, tried = [Called(0, 0.9)], [{"lr": 0.1}]
    assert to_call_again(candidates(calls, earlier, [], 20), 3, "maximize") == -1
    assert to_call_again(candidates(calls, earlier, tried, 20, under_way=tried), 3, "maximize") is None
    assert to_call_again(candidates(calls, earlier, tried, 20), 3, "maximize") == -2


def test_one_that_explodes_again_leads_no_more():
    calls = [Called(0, 0.9, {2: None}), Called(1, 0.5)]
    assert [each.number for each in best_called_first(calls, "maximize")] == [1, 0]
    assert to_call_again(calls, 3, "maximize") == 1
    assert to_call_again(calls[:1], 3, "maximize") is None


def test_the_calls_of_an_earlier_stages_trial_are_those_here_that_came_to_an_end():
    tried = TrialRow(3, 3, "COMPLETE", 0.8, {"lr": 0.3}, attrs={"tried in": "coarse"})
    rows = [row(0, 0.9), tried, row(4, 0.7, again=3), row(5, None, again=3, state="RUNNING"), row(6, 0.9, again=0)]
    assert tried_again(rows) == [TriedAgain("coarse", {"lr": 0.3}, (0.8, 0.7))]
    ends = [("FAIL", {}, ()), ("PRUNED", {"reason": "exploded"}, (None,)), ("PRUNED", {"reason": "halving"}, ())]
    for state, attrs, values in ends:
        [found] = tried_again([replace(tried, state=state, value=None, attrs={**tried.attrs, **attrs})])
        assert found.values == values


def test_an_earlier_trial_whose_call_failed_counts_by_the_one_made_in_its_place():
    failed, other = (replace(row(number, None, state="FAIL"), attrs={"tried in": "coarse"}) for number in (1, 2))
    assert tried_again([failed, replace(other, state="COMPLETE", value=0.8)]) == [
        TriedAgain("coarse", {"lr": 0.1}, (0.8,))
    ]
    assert tried_again([failed, other]) == [TriedAgain("coarse", {"lr": 0.1}, (None, None))]


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=6), st.integers(0, 4), st.integers(0, 2**20))
def test_every_leader_holds_at_last(values, num, seed):
    rows, noise = [row(number, value) for number, value in enumerate(values)], random.Random(seed)
    for number in range(len(values), len(values) + num * len(values) + 1):
        of = to_call_again(calls_of(rows), num, "maximize")
        if of is None:
            break
        rows.append(row(number, values[of] + noise.gauss(0, 1), again=of))
    assert to_call_again(calls_of(rows), num, "maximize") is None
    assert all(len(each.values) <= num for each in calls_of(rows))


def test_calls_are_read_from_the_trials_that_say_so():
    rows = [
        row(0, 0.9),
        row(1, 0.8),
        row(2, 0.7, again=0),
        row(3, None, again=0, state="RUNNING"),
        row(4, 0.6, again=1),
    ]
    rows += [row(5, None, state="PRUNED"), row(6, float("nan")), row(7, None, again=1, state="FAIL")]
    rows += [row(8, None, again=1, state="PRUNED")]
    assert calls_of(rows) == [Called(0, 0.9, {2: 0.7}, 1), Called(1, 0.8, {4: 0.6, 8: None})]
    repeats = repeats_among(rows)
    assert repeats.values == {0: {2: 0.7}, 1: {4: 0.6, 8: None}}
    assert repeats_among(rows[:2]) is None


def test_a_call_that_failed_is_made_once_more_and_says_nothing_of_its_trial():
    """Its process may have been killed, as where memory runs out."""
    rows = [row(0, 0.9), row(1, 0.8), row(2, None, again=0, state="FAIL")]
    assert calls_of(rows)[0] == Called(0, 0.9)
    assert repeats_among(rows) is None
    assert to_call_again(calls_of(rows), 1, "maximize") == 0
    rows.append(row(3, 0.86, again=0))
    assert to_call_again(calls_of(rows), 1, "maximize") is None
    assert [(each.number, each.mean) for each in by_mean(repeats_among(rows), "maximize")] == [(0, pytest.approx(0.88))]


def test_a_trial_whose_calls_fail_again_leads_no_more():
    rows = [row(0, 0.9), row(1, 0.8), row(2, None, again=0, state="FAIL"), row(3, None, again=0, state="FAIL")]
    assert calls_of(rows)[0] == Called(0, 0.9, {2: None, 3: None})
    assert to_call_again(calls_of(rows), 1, "maximize") == 1


def test_an_earlier_trial_whose_call_failed_is_called_once_more():
    tried = [replace(row(number, None, state="FAIL"), attrs={"tried in": "coarse"}) for number in (1, 2)]
    assert params_tried([row(0, 0.9), tried[0]]) == []
    assert params_tried(tried) == [{"lr": 0.1}, {"lr": 0.1}]
    assert params_tried([tried[0], replace(tried[1], state="RUNNING")]) == [{"lr": 0.1}]


def test_the_winner_has_the_best_mean_of_all_its_calls():
    rows = [row(0, 0.90), row(1, 0.89), row(2, 0.80, again=0), row(3, 0.88, again=1), row(4, 0.95, again=1)]
    assert [each.number for each in by_mean(repeats_among(rows), "maximize")] == [1, 0]
    assert best_trial(rows, "maximize").number == 0  # a call is no trial of its own, however good


def test_earlier_trials_that_lead_are_called_in_this_stage_once():
    earlier = [EarlierTrial("coarse", None, {"lr": 0.1}, 0.95), EarlierTrial("coarse", 5, {"lr": 0.2}, 0.99)]
    earlier += [EarlierTrial("coarse", None, {"lr": 0.3}, None), EarlierTrial("coarse", 20, {"lr": 0.4}, 0.5)]
    calls = [Called(0, 0.9)]
    found = candidates(calls, earlier, [{"lr": 0.9}], 20)
    assert [(each.number, each.first) for each in found] == [(0, 0.9), (-1, 0.95), (-4, 0.5)]  # 5 epochs are no 20
    assert to_call_again(found, 1, "maximize") == -1
    assert [each.number for each in candidates(calls, earlier, [{"lr": 0.1}], 20)] == [0, -4]


def study(tmp_path, **fine):
    keys = "\n".join(f"{key} = {value}" for key, value in fine.items())
    file = tmp_path / "study.toml"
    file.write_text(f"[objective]\nfunction = 'mine:f'\n[space]\nlr = {{ log = [1e-4, 1] }}\n[fine]\n{keys}\n")
    return load_settings(file).study


@pytest.mark.parametrize(
    ("kind", "fine", "found"),
    [
        ("fine", {"sampler": "'tpe'"}, 1),
        ("fine", {"sampler": "'tpe'", "confirm": 0}, 0),
        ("fine", {"sampler": "'tpe'", "confirm": 5}, 5),
        ("fine", {"sampler": "'random'"}, 0),
        ("fine", {"sampler": "'tpe'", "trials": 9}, 0),
        ("coarse", {"sampler": "'tpe'"}, 0),
    ],
)
def test_fine_stages_of_code_call_again(tmp_path, kind, fine, found):
    assert num_calls(study(tmp_path, **fine), kind) == found


def test_nets_are_trained_again_otherwise():
    with pytest.raises(ConfigError, match=r"fine.confirm = 3 is for an \[objective\]") as caught:
        load_settings(sets=["fine.confirm=3"])
    assert "repeat_best" in str(caught.value)


def test_the_last_three_of_ten_trials_are_for_it():
    assert [first_number(num) for num in (10, 20, 50)] == [7, 14, 35]


def test_a_call_has_a_seed_of_its_own():
    assert [seed_of_call(7, 40, {}), seed_of_call(7, 40, {"again": 3})] == [7, 47]
    assert seed_of_call(7, 40, {"tried in": "coarse"}) == 47
