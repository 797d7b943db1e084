"""What guessing gives, and how far luck carries the best of many guesses."""

import math

import numpy as np
import pytest

from hpsearch.analysis.chance import KeptImages, counted, num_images_of, standard_error
from hpsearch.storage import TrialRow


@pytest.mark.parametrize("num_trials", [1, 10, 100, 1000])
def test_the_best_of_many_guesses_is_luck(num_trials):
    images = KeptImages(num_classes=4, num_val=200)
    draw = np.random.default_rng(num_trials)
    bests = draw.binomial(200, 0.25, size=(500, num_trials)).max(axis=1) / 200
    lucky = np.mean([images.is_luck(best, num_trials) for best in bests])
    assert lucky > (0.45 if num_trials == 1 else 0.75)  # of one guess, half are better than chance
    assert not images.is_luck(bests.max() + 0.05, num_trials)


def test_the_most_frequent_class_is_what_a_guess_gives():
    images = KeptImages(num_classes=2, num_val=1000, largest_share=0.9)
    assert images.chance == 0.9
    assert images.is_luck(0.91, 50)
    assert not images.is_luck(0.95, 50)


def test_too_few_images_say_nothing():
    assert not KeptImages(num_classes=3, num_val=18).is_luck(0.4, 12)
    assert not KeptImages().is_luck(0.1, 100)
    assert KeptImages().luck(5) is None


def test_the_number_of_images_shows_in_the_accuracies_of_older_studies():
    trials = [TrialRow(1, 0, "COMPLETE", 0.5, intermediate={1: 0.25, 2: 0.5}), TrialRow(2, 1, "RUNNING", None)]
    assert counted(KeptImages(num_classes=4), trials) == KeptImages(num_classes=4, num_val=4)
    assert counted(KeptImages(num_classes=4, num_val=90), trials).num_val == 90
    assert counted(KeptImages(), trials) == KeptImages()  # another program's values are no accuracies
    assert num_images_of(k / 1000 for k in (401, 402, 410, 555)) == 1000
    assert num_images_of([0.5]) is num_images_of([math.nan]) is None


def test_the_standard_error_of_an_accuracy():
    assert standard_error(0.5, 100) == pytest.approx(0.05)
    assert standard_error(1.0, 10) == 0
