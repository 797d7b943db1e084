"""train.warmup and train.clip_norm by the front door: given, searched, stored, shown."""

import pytest


def test_a_search_over_both_shows_what_its_trials_trained_with(hpsearch):
    hpsearch(
        "coarse", "-c", "tiny.toml", "--skip-checks", "--trials", 6, "--epochs", 3, "--set", "train.lr_decay=0.5",
        "--space", "warmup=uniform(0.5,4)", "--space", "clip_norm=log(1e-3,10)", "--space", "lr=log(1e-4,1e-2)",
    )  # fmt: skip
    trials = hpsearch.json("export", "coarse")["trials"]
    assert len(trials) == 6
    for trial in trials:
        params = trial["params"]
        warmup = params["train.warmup"]
        assert 0.5 <= warmup <= 4
        assert 1e-3 <= params["train.clip_norm"] <= 10
        rates = [epoch["lr"] for epoch in trial["epochs"]]
        expected = [params["lr"] * 0.5 ** (n - 1) * min(1, n / warmup) for n in (1, 2, 3)]
        assert rates == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("given", ["train.warmup=-1", "train.clip_norm=-0.5"])
def test_neither_is_negative(hpsearch, given):
    key, _, value = given.partition("=")
    said = hpsearch("coarse", "-c", "tiny.toml", "--set", given, code=2).stderr
    assert f"{key} = {value} is not allowed" in said
    assert "a number of at least 0" in said


@pytest.mark.parametrize(("wish", "key"), [("warmup_epochs", "train.warmup"), ("grad_clip", "train.clip_norm")])
def test_other_names_lead_there(hpsearch, wish, key):
    assert key in hpsearch("coarse", "-c", "tiny.toml", "--set", f"train.{wish}=1", code=2).stderr
