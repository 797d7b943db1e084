"""`--data csv:FILE` from the first search to the report, by the command and with relative paths."""

import csv

import numpy as np
import pytest
from PIL import Image

TINY = ("--model", "linear", "--trials", "4", "--skip-checks")


def scans(folder, num=40):
    """Of each patient four, two dark and two light ones, and a table in German."""
    rng = np.random.default_rng(0)
    (folder / "praxis" / "bilder").mkdir(parents=True)
    rows = []
    for i in range(num):
        kind, patient = ("dunkel", "hell")[i % 2], f"P{i // 4:02}"
        pixels = 10 + 100 * (i % 2) + rng.integers(0, 100, (12, 16))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "praxis" / "bilder" / f"{i}.png")
        rows.append([f"bilder/{i}.png", kind, patient])
    with (folder / "praxis" / "befunde.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, delimiter=";").writerows([["Bild", "Art", "Patient"], *rows])


@pytest.mark.slow
def test_a_table_goes_from_the_search_to_the_report(hpsearch):
    scans(hpsearch.folder)
    columns = ('data.csv.path="Bild"', 'data.csv.label="Art"', "data.resize=crop", "data.size=8")
    sets = [word for each in columns for word in ("--set", each)]
    searched = hpsearch("coarse", "--data", "csv:praxis/befunde.csv", *TINY, "--epochs", "1", *sets)
    for note in (
        "16x12 images cropped in the middle to 8x8",
        "10 groups of images, each in one split alone",
        "columns of befunde.csv: path = Bild, label = Art, group = Patient",
    ):
        assert note in searched.stdout
    fine = hpsearch("fine", "--from", "coarse", "--trials", "2", "--epochs", "2", "--set", "run.memory=1")
    assert "images stay on disk: 32, of " in fine.stdout
    assert "lr" in hpsearch("boundary", "fine").stdout
    best = hpsearch.json("best", "fine")
    tested = hpsearch.json("test", "fine")
    assert (tested["num_train"], tested["num_test"]) == (28, 8), "whole patients"
    assert tested["classes"] == ["dunkel", "hell"]
    again = hpsearch("rerun", "fine", best["number"] if "number" in best else best["trial"])
    assert "exact" in again.stdout
    hpsearch("report", "fine", "-o", "report.html")
    in_memory = hpsearch("fine", "--from", "coarse", "--trials", "2", "--epochs", "2", "--name", "again")
    assert "stay on disk" not in in_memory.stdout
    values = [hpsearch.json("best", name)["value"] for name in ("fine", "again")]
    assert values[0] == values[1], "to the last bit"


def test_a_table_whose_files_are_gone_is_refused_before_anything_is_written(hpsearch):
    scans(hpsearch.folder)
    (hpsearch.folder / "praxis" / "bilder" / "3.png").unlink()
    table = hpsearch.folder / "praxis" / "befunde.csv"
    table.write_text(table.read_text(encoding="utf-8-sig").replace("Bild;Art", "file;class"))
    refused = hpsearch("coarse", "--data", "csv:praxis/befunde.csv", *TINY, code=1)
    assert "praxis/befunde.csv: 1 file is not there (line 5: praxis/bilder/3.png)." in refused.stderr
    missing = hpsearch("coarse", "--data", "praxis/befunde.csv", *TINY, code=2)
    assert "Did you mean 'csv:praxis/befunde.csv'?" in missing.stderr
