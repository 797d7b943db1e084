"""How much of a pretrained net to train: the four fields of the lectures' table, and what is searched already."""

import pytest

from hpsearch.analysis.transfer_advice import transfer_advice

ALIKE, OTHER = {1: 0.5, 3: 0.8, "last": 0.9}, {1: 0.3, 3: 0.35, "last": 0.34}
BETTER = {1: 0.3, 3: 0.95, "last": 0.9}


@pytest.mark.parametrize(
    ("images", "accuracies", "said", "advised"),
    [
        (99, ALIKE, "few images (99 a class", "--set model.freeze=all"),
        (99, OTHER, "tell little", '--set model.freeze=all --space "features=choice(last,3,1)"'),
        (99, BETTER, "after stage 3 better (0.95)", '--set model.freeze=all --space "features=choice(last,3)"'),
        (100, ALIKE, "many images (100 a class", '"freeze=choice(all,1,2)"'),
        (5000, OTHER, "many images (5,000 a class", '"freeze=choice(2,none)"'),
    ],
)
def test_the_table(images, accuracies, said, advised):
    found = transfer_advice(images, accuracies, 0.1, "none", {})
    assert said in found.text
    assert found.advice.endswith(advised)


def test_alike_is_half_the_way_from_guessing():
    assert "tell them apart" in transfer_advice(10, {"last": 0.75}, 0.5, "all", {}).text
    assert "tell little" in transfer_advice(10, {"last": 0.74}, 0.5, "all", {}).text


@pytest.mark.parametrize(
    ("images", "accuracies", "freeze", "searched", "fits"),
    [
        (10, ALIKE, "all", (), True),
        (10, ALIKE, "none", (), False),
        (10, ALIKE, "none", ("model.freeze",), True),
        (10, OTHER, "all", (), False),
        (10, OTHER, "all", ("model.features",), True),
        (500, ALIKE, 2, (), True),
        (500, ALIKE, "all", (), False),
        (500, OTHER, "none", (), True),
    ],
)
def test_what_is_done_already(images, accuracies, freeze, searched, fits):
    assert transfer_advice(images, accuracies, 0.1, freeze, dict.fromkeys(searched)).fits == fits
