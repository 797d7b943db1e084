"""`hpsearch check`, and the checks that begin a coarse search, as subprocesses in an empty folder."""

import json
import re

import pytest

DEAD = ("--set", "model.init=small:1e-12", "--set", "model.hidden=[20, 20, 20]")


def test_check_then_coarse(hpsearch):
    study = hpsearch.folder / "tiny.toml"  # small weights learn at fewer rates: a range that can be padded
    study.write_text(study.read_text().replace("hidden = [6]", 'hidden = [6]\ninit = "small:1e-4"'))
    done = hpsearch("check", "-c", "tiny.toml")
    for name in ("data", "net", "initial loss", "regularization", "overfit", "activations", "learning rate"):
        assert re.search(rf"^{name} +ok ", done.stdout, re.MULTILINE), name
    assert re.search(r"^net +ok +[\d,]+ parameters, [\d,]+ multiply-adds an image", done.stdout, re.MULTILINE)
    assert re.search(r"^verdict +healthy", done.stdout, re.MULTILINE)
    assert re.search(r"^1\.0e-06 +barely moves", done.stdout, re.MULTILINE)
    assert re.search(r"^1\.0e\+01 +explodes", done.stdout, re.MULTILINE)
    assert "coarse --from this check goes on to lower rates" in done.stdout
    assert re.search(r"^overfit +lr .* cost .*[▁█]", done.stdout, re.MULTILINE)
    assert "hpsearch coarse --from check" in done.stdout

    again = hpsearch("check", "-c", "tiny.toml", "-q")
    assert "barely moves" not in again.stdout
    found = hpsearch.json("check", "-c", "tiny.toml")
    assert (found["study"], found["fresh"], found["ok"]) == ("check", False, True)
    rates = found["findings"][-1]["measured"]
    assert rates["low"] < rates["high"]
    assert len(rates["rates"]) == 15

    other = hpsearch("check", "-c", "tiny.toml", "--set", "train.batch_size=30", code=3)
    assert "train.batch_size: 20 -> 30" in other.stderr

    plan = hpsearch.json("coarse", "--from", "check", "--dry-run")
    [lr, reg] = plan["ranges"]
    assert (plan["from"], lr["new"], reg["reason"]) == ("check", [rates["low"], rates["high"]], "given")
    long = hpsearch.json("coarse", "--from", "check", "--dry-run", "--set", "train.batch_size=4", "--epochs", "40")
    padded = long["ranges"][0]  # 18 steps an epoch: 720 in a trial, of which the check made 100
    assert padded["new"][0] < rates["low"]
    assert padded["new"][1] == rates["high"]
    assert padded["reason"].startswith("the loss goes down from ")
    assert padded["reason"].endswith(" times lower, as a trial takes 720 steps and the check took 100")
    coarse = hpsearch("coarse", "--from", "check")  # the check's own config
    assert re.search(r"^lr +\[1e-05, 1e\+00\] -> \[.*\] +the loss goes down from", coarse.stdout, re.MULTILINE)
    assert coarse.stdout.count("\nchecks ") == 1
    assert "coarse   12 of 12 trials x 2 epochs" in coarse.stdout
    overview = {row["study"]: (row["stage"], row["from"], row["trials"]) for row in hpsearch.json("status")}
    assert overview == {"check": ("check", None, 15), "coarse": ("coarse", "check", 12)}
    assert "hpsearch coarse --from check" in hpsearch("status", "check").stdout
    assert "is no check" in hpsearch("coarse", "--from", "coarse", "--name", "b", code=2).stderr


@pytest.mark.slow
def test_a_check_that_fails_exits_3_and_says_what_to_do(hpsearch):
    done = hpsearch("check", "-c", "tiny.toml", *DEAD, code=3)
    assert re.search(r"^activations +failed .*dead.*model\.init = he", done.stdout, re.MULTILINE)
    assert re.search(r"^failed +regularization, overfit, activations; nothing is kept", done.stdout, re.MULTILINE)
    assert "hpsearch coarse" not in done.stdout
    found = json.loads(hpsearch("check", "-c", "tiny.toml", *DEAD, "--json", code=3).stdout)
    assert (found["ok"], found["study"]) == (False, None)
    assert not (hpsearch.folder / "studies").exists()


@pytest.mark.slow
def test_coarse_refuses_to_search_with_a_net_that_cannot_learn(hpsearch):
    refused = hpsearch("coarse", "-c", "tiny.toml", *DEAD, code=3)
    lines = refused.stderr.strip().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("error: the check 'regularization' failed: ")
    assert lines[1].endswith("--skip-checks.")
    assert "val_acc" not in refused.stdout
    assert not (hpsearch.folder / "studies").exists()
    forced = hpsearch("coarse", "-c", "tiny.toml", *DEAD, "--skip-checks", "--trials", "2")
    assert "checks" not in forced.stdout
    again = hpsearch.json("coarse", "-c", "tiny.toml", *DEAD, "--trials", "2")  # goes on without them
    assert (again["trials"], again["checks"]) == (2, None)


def test_the_document_of_a_search_has_its_checks(hpsearch):
    result = hpsearch.json("coarse", "-c", "tiny.toml", "--trials", "2")
    assert result["checks"]["ok"]
    assert [each["name"] for each in result["checks"]["findings"]] == [
        "data",
        "net",
        "initial loss",
        "regularization",
        "overfit",
    ]


def test_inputs_from_0_to_255_are_refused(hpsearch):
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, size=(80, 6, 6, 1), dtype=np.uint8)
    np.savez(hpsearch.folder / "bytes.npz", x_train=x, y_train=np.arange(80) % 4)
    raw = ("--data", "npz:bytes.npz", "--set", "data.normalize=none", "--set", "data.scale=255")
    refused = hpsearch("coarse", *raw, code=3)
    assert "initial loss" in refused.stderr
    assert "data.normalize = channel" in refused.stderr
    hpsearch("coarse", "--data", "npz:bytes.npz", "--trials", "2", "--epochs", "1")
