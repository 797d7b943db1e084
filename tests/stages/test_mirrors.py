import pytest

from hpsearch.config import load_settings
from hpsearch.config.metric import ACCURACY
from hpsearch.stages.mirrors import make_mirror
from hpsearch.stages.planning import plan_coarse
from hpsearch.stages.proposals import Mirror
from hpsearch.stages.suggestions import SuggestingMirror
from hpsearch.storage import StudyRow, TrialRow

OPTUNA_OBJECTIVE = {"objective.function": "mine:f", "objective.form": "optuna"}


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ({"coarse.sampler": "random"}, type(None)),
        ({"coarse.sampler": "random", "coarse.pruner": "median"}, Mirror),
        ({"coarse.sampler": "tpe"}, Mirror),
        (OPTUNA_OBJECTIVE | {"coarse.sampler": "random"}, type(None)),
        (OPTUNA_OBJECTIVE | {"coarse.sampler": "tpe"}, SuggestingMirror),
    ],
)
def test_a_stage_has_one_where_sampler_or_pruner_learn_while_it_runs(flags, kind):
    plan = plan_coarse(load_settings(flags={**flags, "coarse.trials": 4}))
    waiting = [TrialRow(trial_id=number, number=number, state="WAITING") for number in range(4)]
    study = StudyRow(1, "coarse", ("maximize",))
    assert type(make_mirror(study, plan, waiting, ACCURACY, [])) is kind
