import pytest
from fleet_at_work import Fleet


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.slow])])
def fleet(request, tmp_path):
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/studies.db"
    else:
        url = request.getfixturevalue("postgres_databases").new()
    fleet = Fleet(tmp_path, url)
    yield fleet
    fleet.close()


@pytest.fixture
def sqlite_fleet(tmp_path):
    fleet = Fleet(tmp_path, f"sqlite:///{tmp_path}/studies.db")
    yield fleet
    fleet.close()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """What the search gives when nothing happens to it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    fleet = Fleet(folder, f"sqlite:///{folder}/studies.db")
    fleet.finish(fleet.coarse())
    fleet.assert_invariants()
    return fleet.values()
