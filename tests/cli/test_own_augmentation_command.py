"""data.augment of a user's own, by the commands: the page's example, whom it is trusted by, what is refused."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs/own-code.md").read_text()
EXAMPLE = re.search(r"```python\n(# myaugment\.py.*?)```", PAGE, re.DOTALL)[1]
KINDS = 'data.augment=["myaugment:swirl", "myaugment:blend"]'


@pytest.mark.slow
def test_the_example_trains_goes_on_and_is_only_run_where_it_is_trusted(hpsearch):
    (hpsearch.folder / "myaugment.py").write_text(EXAMPLE)
    hpsearch("coarse", "-c", "tiny.toml", "--set", KINDS, "--trials", "4", "-q")
    refused = hpsearch("fine", "--from", "coarse", "--trials", "2", code=3).stderr
    assert "--trust myaugment" in refused
    hpsearch("fine", "--from", "coarse", "--trials", "2", "--trust", "myaugment", "-q")
    assert [row["finished"] for row in hpsearch.json("status")] == [4, 2]
    best = hpsearch.json("best", "coarse")["number"]
    again = hpsearch("rerun", "coarse", best, "--seeds", "1", "--trust", "myaugment").stdout
    assert "followed its recorded curve" in again  # exactly, or but for rounding: it trains alone now


def test_one_that_draws_for_itself_is_refused_before_anything_is_written(hpsearch):
    (hpsearch.folder / "mine.py").write_text("import torch\ndef noisy(x):\n    return x + torch.rand_like(x)\n")
    refused = hpsearch("coarse", "-c", "tiny.toml", "--set", "data.augment=mine:noisy", "-q", code=2).stderr
    assert "mine:noisy gives other images each time" in refused
    assert not (hpsearch.folder / "studies").exists()
    refused = hpsearch("coarse", "-c", "tiny.toml", "--set", "data.augment=rotat:ten", "-q", code=2).stderr
    assert "there is no module 'rotat'" in refused
