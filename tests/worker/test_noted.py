"""What the user's code keeps with a trial never passes for what we keep."""

import pytest

from hpsearch.analysis import attributes
from hpsearch.storage import RUNG, STRUCTURE
from hpsearch.worker.noted import of_user

REASONS = {attributes.EXPLODED, attributes.STOPPED_EARLY, attributes.HALVED, attributes.SPENT}  # values of a name


@pytest.mark.slow
def test_each_of_our_names_is_kept_as_one_of_the_users():
    words = {word for name, word in vars(attributes).items() if name.isupper() and isinstance(word, str)}
    ours = {word for word in words if not word.startswith("hpsearch.")} - REASONS - {attributes.TRAIN}
    ours |= {RUNG, STRUCTURE}
    assert {"again", "rung", "tried in", "reason", "proposed"} <= ours
    assert of_user(dict.fromkeys(ours, 3)) == {f"user.{name}": 3 for name in ours}
    assert of_user({"mine": 1}) == {"mine": 1}
