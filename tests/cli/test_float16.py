"""train.precision = "float16" by the front door."""

import pytest

TINY = """
[data]
source = "synthetic"
synthetic = { shape = [1, 4, 4], classes = 3, train = 90, test = 9, noise = 0.5 }
[model]
hidden = [6]
[train]
batch_size = 20
precision = "float16"
[coarse]
trials = 4
epochs = 2
"""


@pytest.mark.slow
def test_a_search_in_float16_says_so_and_its_trials_learn(hpsearch):
    (hpsearch.folder / "tiny.toml").write_text(TINY)
    done = hpsearch("coarse", "-c", "tiny.toml", "--space", "lr=log(0.05,0.1)", "--space", "reg=none")
    assert "float16 products" in done.stdout
    assert "cannot train" not in done.stderr
    assert hpsearch.json("best", "coarse")["value"] > 0.5
    for engine in ("fused", "vmap"):  # before anything is written, not trial by trial
        said = hpsearch("coarse", "-c", "tiny.toml", "--engine", engine, "--name", "no", code=2).stderr
        assert f"train.precision = 'float16' does not run with run.engine = '{engine}'.\nAllowed: run.engine =" in said
    assert [row["study"] for row in hpsearch.json("status")] == ["coarse"]
