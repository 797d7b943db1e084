import math
import subprocess
import sys

import pytest
import sqlalchemy as sa

from hpsearch.storage import tables


@pytest.mark.parametrize("table", tables.OPTUNA_TABLES, ids=lambda table: table.name)
def test_tables_are_declared_as_optuna_does(table):
    from optuna.storages._rdb import models

    theirs = models.BaseModel.metadata.tables[table.name]
    assert set(table.columns.keys()) == set(theirs.columns.keys())
    for column in table.columns:
        other = theirs.columns[column.name]
        assert type(column.type) is type(other.type)
        assert column.primary_key == other.primary_key
        assert column.nullable == other.nullable
        assert {key.target_fullname for key in column.foreign_keys} == {
            key.target_fullname for key in other.foreign_keys
        }
        if isinstance(column.type, sa.Enum):
            assert (column.type.name, column.type.enums) == (other.type.name, other.type.enums)
        elif isinstance(column.type, sa.String):
            assert column.type.length == other.type.length
        elif isinstance(column.type, sa.Float):
            assert column.type.precision == other.type.precision


def test_the_schema_is_that_of_the_installed_optuna(db):
    backend = db.optuna_storage()._backend
    assert tables.OPTUNA_SCHEMA == backend.get_head_version() == backend.get_current_version()


def test_upsert_replaces_or_keeps(db):
    table = tables.hpsearch_epochs
    with db.write() as connection:
        connection.execute(sa.insert(tables.studies).values(study_name="s"))
        connection.execute(sa.insert(tables.trials).values(number=0, study_id=1, state="WAITING"))
        row = {"trial_id": 1, "epoch": 1, "cost": math.inf, "lr": math.nan}
        tables.upsert(connection, table, ["trial_id", "epoch"], [row])
        tables.upsert(connection, table, ["trial_id", "epoch"], [{**row, "cost": 5.0}], replace=False)
        kept = connection.execute(sa.select(table.c.cost, table.c.lr)).one()
        tables.upsert(connection, table, ["trial_id", "epoch"], [{**row, "cost": 5.0}])
        replaced = connection.execute(sa.select(table.c.cost)).scalars().all()
    assert kept.cost == math.inf
    assert math.isnan(kept.lr)
    assert replaced == [5.0]


def test_reading_a_storage_imports_nothing_heavy(sqlite_template):
    code = (
        "import sys, hpsearch.storage as s\n"
        f"db = s.open_database('sqlite:///{sqlite_template}')\n"
        "assert s.list_studies(db) == []\n"
        "db.close()\n"
        "print([m for m in ('optuna', 'torch', 'numpy', 'scipy', 'alembic', 'psycopg') if m in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    assert output.stdout.strip() == "[]"
