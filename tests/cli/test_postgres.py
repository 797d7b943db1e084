"""The main job with its studies in Postgres."""

import optuna
import pytest

from hpsearch.storage import open_database


@pytest.mark.postgres
def test_coarse_and_fine_in_postgres(hpsearch, postgres_databases):
    url = postgres_databases.new()
    hpsearch.environment["HPSEARCH_RUN__KEEP"] = "none"  # nothing else is written to this folder
    done = hpsearch("coarse", "-c", "tiny.toml", HPSEARCH_STORAGE=url)
    assert "spent: 12 of 12" in done.stdout
    hpsearch("fine", "--from", "coarse", HPSEARCH_STORAGE=url)
    assert [row["study"] for row in hpsearch.json("status", HPSEARCH_STORAGE=url)] == ["coarse", "fine"]
    assert len(hpsearch.json("boundary", "fine", HPSEARCH_STORAGE=url)["parameters"]) == 2
    db = open_database(url)
    study = optuna.load_study(study_name="coarse", storage=db.optuna_storage())
    assert [trial.number for trial in study.trials] == list(range(12))
    assert study.best_value == hpsearch.json("best", "coarse", HPSEARCH_STORAGE=url)["value"]
    db.close()
    assert [path.name for path in hpsearch.folder.iterdir()] == ["tiny.toml"]
