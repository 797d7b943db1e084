"""When an explosion may be that of one bad minibatch."""

import pytest

from hpsearch.analysis import attributes
from hpsearch.analysis.diagnosis import EXPLODED_ADVICE, diagnose_study
from hpsearch.analysis.few_images import few_images_text
from hpsearch.storage import StudyRow, TrialRow


@pytest.mark.parametrize(
    ("size", "num_train", "params", "said"),
    [
        (5, 1000, {}, "a step sees 5 images, so one bad minibatch"),
        (1, None, {}, "a step sees 1 image, so"),
        (6, 1000, {}, None),
        (20, 100, {}, "an epoch has 5 steps, so one bad minibatch"),
        (20, 101, {}, None),
        (20, None, {}, None),
        (100, 1000, {"train.batch_size": 2}, "a step sees 2 images"),
        (None, 3, {}, None),
    ],
)
def test_few_images_or_steps_are_said(size, num_train, params, said):
    found = few_images_text({"train": {"batch_size": size}}, num_train, params)
    assert found is None if said is None else found.startswith(said)


@pytest.mark.parametrize(("num_train", "few"), [(60, True), (6000, False)])
def test_the_verdict_of_an_explosion_says_it(num_train, few):
    attrs = {
        attributes.CONFIG: {"train": {"batch_size": 20}},
        attributes.DATASET: {"classes": 3, "train": num_train},
    }
    trial = TrialRow(1, 0, "PRUNED", 0.0, attrs={attributes.REASON: attributes.EXPLODED})
    [found] = diagnose_study(StudyRow(1, "coarse", ("maximize",), attrs), [trial], {}).values()
    assert found.advice.startswith(EXPLODED_ADVICE)
    assert ("an epoch has 3 steps" in found.advice) == few
