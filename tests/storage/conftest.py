"""Databases to test on: every fixture below gives SQLite and Postgres in turn."""

import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor

import pytest
import sqlalchemy as sa
import together

from hpsearch.storage import open_database

BACKENDS = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture(params=BACKENDS)
def fresh_url(request, tmp_path):
    """URL of a database with nothing in it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/fresh/studies.db"
    return request.getfixturevalue("postgres_databases").new()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "studies.db"
    open_database(f"sqlite:///{path}", create=True).close()
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_databases):
    url = postgres_databases.new()
    open_database(url, create=True).close()
    return sa.make_url(url).database


@pytest.fixture(params=BACKENDS)
def url(request, tmp_path):
    """URL of a database with the schema and no studies."""
    if request.param == "sqlite":
        path = tmp_path / "studies.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        return f"sqlite:///{path}"
    template = request.getfixturevalue("postgres_template")
    return request.getfixturevalue("postgres_databases").new(template)


@pytest.fixture
def db(url):
    database = open_database(url)
    yield database
    database.close()


@pytest.fixture(scope="session")
def processes():
    """`processes(function, args)` runs the function in NUM_PROCESSES processes at the same moment."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(together.NUM_PROCESSES)
    pool = ProcessPoolExecutor(together.NUM_PROCESSES, context, together.set_barrier, (barrier,))
    with pool:

        def run(function, *args):
            futures = [pool.submit(together.at_once, function, args) for _ in range(together.NUM_PROCESSES)]
            return [future.result(timeout=600) for future in futures]

        yield run
