"""A training script as people have them, with argparse and a bar of tqdm, searched coarse and fine."""

import sys

import pytest

SCRIPT = """
import argparse
import math
import sys

from tqdm import tqdm

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, required=True)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--optimizer", choices=["sgd", "adam"], default="sgd")
parser.add_argument("--nesterov", default="false")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()

best = 1 - (math.log10(args.lr) + 2) ** 2 / 10 - abs(args.batch_size - 64) / 1000 - 0.1 * (args.optimizer == "sgd")
for epoch in range(1, args.epochs + 1):
    for step in tqdm(range(50), desc=f"epoch {epoch}", file=sys.stderr, mininterval=0):
        pass
    print(f"epoch {epoch}: train_loss={1 / epoch:.4f} val_acc={best - 0.5 / epoch:.6f} (lr {args.lr})")
"""


@pytest.mark.slow
def test_a_script_of_the_kind_that_people_have_is_searched(command_line, tmp_path):
    place = command_line(tmp_path)
    (tmp_path / "train.py").write_text(SCRIPT)
    words = ["--lr", "{lr}", "--batch-size={bs}", "--optimizer", "{opt}", "--epochs", "{epochs}", "--seed", "{seed}"]
    space = ["--space", "lr=log(1e-5,1)", "--space", "bs=int_log(8,256)", "--space", "opt=choice(sgd,adam)"]
    metric = ("--metric", r"val_acc=([0-9.-]+)")
    command = ("wrap", *space, *metric, "--trials", "24", "--epochs", "2", "--workers", "2")
    said = place(*command, "--", sys.executable, "train.py", *words).stdout
    assert "wrapped  24 of 24 trials x 2 epochs" in said
    follow = next(line for line in said.splitlines() if line.startswith("next"))
    fine = place(*follow.split()[2:], "--trials", "8", "--epochs", "4").stdout
    assert "8 of 8 trials x 4 epochs" in fine
    for study, epochs, num in (("wrapped", 2, 24), ("wrapped-fine", 4, 8)):
        trials = place.json("export", study)["trials"]
        assert [trial["state"] for trial in trials] == ["COMPLETE"] * num
        for trial in trials:
            assert list(map(int, trial["intermediate"])) == list(range(1, epochs + 1))
            assert trial["value"] == trial["intermediate"][str(epochs)]
    best = [place.json("best", study)["value"] for study in ("wrapped", "wrapped-fine")]
    assert best[1] > best[0]
    printed = next((tmp_path / "studies" / "artifacts" / "trials").glob("*/0/output.txt")).read_text()
    assert "epoch 1: train_loss=1.0000" in printed
    assert "50/50" in printed  # the bar
