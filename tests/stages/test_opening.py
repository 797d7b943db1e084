"""What a stage is refused with whose name another search has: the keys that the user changed, and no others."""

import pytest

from hpsearch.errors import RefusedError
from hpsearch.stages.opening import open_stage
from hpsearch.stages.planning import plan_coarse


class Images:
    fingerprint, shape, num_classes = "f", (1, 4, 4), 3
    num_train, num_val, largest_share = 72, 18, 0.4


BUDGET = "coarse.epochs_budget"
HALVING = {"coarse.halving": "promote", "coarse.epochs": 9}


@pytest.mark.parametrize(
    ("first", "then", "said"),
    [
        ({BUDGET: 20}, {BUDGET: 30}, "coarse.epochs_budget: 20 -> 30"),
        ({BUDGET: 20}, {"coarse.trials": 30}, "coarse.epochs_budget: 20 -> -; coarse.trials: - -> 30"),
        ({"coarse.trials": 30}, {BUDGET: 30}, "coarse.epochs_budget: - -> 30; coarse.trials: 30 -> -"),
        ({"coarse.trials": 20}, {"coarse.trials": 30}, "coarse.trials: 20 -> 30"),
    ],
)
def test_of_two_budgets_the_one_that_was_said_is_named(db, tiny, first, then, said):
    """A budget in epochs has as many trials as fit, a number that nobody gave."""
    open_stage(db, plan_coarse(tiny(**first, **HALVING)), Images)
    with pytest.raises(RefusedError) as refused:
        open_stage(db, plan_coarse(tiny(**then, **HALVING)), Images)
    assert f" is another search: {said}.\n" in str(refused.value)
    open_stage(db, plan_coarse(tiny(**first, **HALVING)), Images)  # the same one goes on
