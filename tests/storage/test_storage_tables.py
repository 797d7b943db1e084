import math
import subprocess
import sys

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from hpsearch.storage import open_database, optuna_schema, tables
from hpsearch.storage.database import Database, make_folder
from hpsearch.storage.urls import parse_url


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


@pytest.mark.parametrize("dialect", [sqlite.dialect(), postgresql.dialect()], ids=lambda dialect: dialect.name)
def test_new_tables_are_to_the_letter_those_that_optuna_makes(dialect):
    from optuna.storages._rdb import models

    made = ddl(tables.optuna_metadata, dialect)
    assert made.pop("alembic_version")  # which alembic makes, not Optuna
    assert made == ddl(models.BaseModel.metadata, dialect)


def ddl(metadata, dialect):
    """The statements that make each table with its indices, and the types that Postgres makes for it."""
    return {
        table.name: [str(CreateTable(table).compile(dialect=dialect))]
        + sorted(str(CreateIndex(index).compile(dialect=dialect)) for index in table.indexes)
        + [(column.type.name, column.type.enums) for column in table.columns if isinstance(column.type, sa.Enum)]
        for table in metadata.sorted_tables
    }


def test_a_new_database_holds_what_optuna_would_have_put_into_it(fresh_url):
    """The same tables in it, and the same rows, whichever of them has made it."""
    ours = open_database(fresh_url, create=True)
    made = held(ours)
    with ours.write() as connection:
        everything = sa.MetaData()
        everything.reflect(connection)
        everything.drop_all(connection)
        for name in ("studydirection", "trialstate", "trialvaluetype", "trialintermediatevaluetype"):
            if not ours.is_sqlite:
                connection.execute(sa.text(f"DROP TYPE IF EXISTS {name}"))
    ours.rdb_storage({"poolclass": sa.NullPool}).remove_session()
    theirs = held(ours)
    ours.close()
    assert {name: made[name] for name in theirs} == theirs
    assert set(made) - set(theirs) == {"hpsearch_leases", "hpsearch_epochs", "hpsearch_version"}


def held(db):
    with db.read() as connection:
        look = sa.inspect(connection)
        return {
            name: (
                [{**column, "type": repr(column["type"])} for column in look.get_columns(name)],
                sorted(map(str, look.get_indexes(name))),
                sorted(map(str, look.get_unique_constraints(name))),
                sorted(map(str, look.get_foreign_keys(name))),
                sorted(map(str, look.get_check_constraints(name))),
                look.get_pk_constraint(name),
                connection.execute(sa.text(f"SELECT * FROM {name}")).all(),
            )
            for name in look.get_table_names()
        }


def test_another_schema_of_optuna_is_made_by_optuna(fresh_url, monkeypatch):
    monkeypatch.setattr(optuna_schema, "is_known", lambda: False)
    monkeypatch.setattr(tables.optuna_metadata, "create_all", None)
    open_database(fresh_url, create=True).close()


def test_optuna_finishes_what_it_has_begun(fresh_url):
    """A database with a table or two is none that we know."""
    db = Database(parse_url(fresh_url))
    if db.path is not None:
        make_folder(db.path)
    with db.write() as connection:
        tables.studies.create(connection)
        assert not optuna_schema.create_optuna_tables(connection)
    assert db.create_schema() == "empty"
    assert db.has_own_tables()
    db.close()


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


def test_making_a_storage_imports_nothing_heavy(tmp_path):
    code = (
        "import sys, hpsearch.storage as s\n"
        f"s.open_database('sqlite:///{tmp_path}/new.db', create=True).close()\n"
        "print([m for m in ('optuna', 'sqlalchemy.orm', 'alembic', 'numpy') if m in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    assert output.stdout.strip() == "[]"
