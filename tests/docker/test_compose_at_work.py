"""The commands of compose.yaml, read from it, run outside of containers on a Postgres that asks for the password."""

import http.client
import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
import sqlalchemy as sa
from composed import Services, read_compose
from held_searches import Command, go, hold, wait_until_held, wait_until_told

from hpsearch.storage import count_states, find_study, open_database

pytestmark = pytest.mark.postgres

PASSWORD, TOKEN = "canary-p@ss/word:%41", "canary-token-0123456789"
STUDY = """
[data]
source = "synthetic"
synthetic = { shape = [1, 4, 4], classes = 3, train = 90, test = 9, noise = 0.5 }
[model]
hidden = [6]
[train]
batch_size = 20
[space]
lr = { log = [1e-3, 1e-1] }
[coarse]
trials = 12
epochs = 5
[run]
width = 3
"""
PATIENCE = 600.0  # seconds; a bound against hanging


@pytest.fixture
def services(tmp_path, postgres_databases):
    """Secrets, and a database that the user of compose.yaml owns."""
    url = sa.make_url(postgres_databases.new())
    postgres = read_compose()["services"]["postgres"]["environment"]
    user = postgres["POSTGRES_USER"]
    with postgres_databases.engine.connect() as connection:
        run = connection.exec_driver_sql
        if not connection.scalar(sa.text("SELECT 1 FROM pg_roles WHERE rolname = :user"), {"user": user}):
            run(f"CREATE ROLE {user} LOGIN")
        run(f"ALTER ROLE {user} PASSWORD '{PASSWORD.replace('%', '%%')}'")
        run(f"ALTER DATABASE {url.database} OWNER TO {user}")
        rules = Path(connection.scalar(sa.text("SHOW hba_file")))
        if "HPSEARCH_TEST_POSTGRES" not in os.environ and user not in rules.read_text():  # our own server trusts all
            rules.write_text(f"local all {user} scram-sha-256\nhost all {user} all scram-sha-256\n" + rules.read_text())
            run("SELECT pg_reload_conf()")
    rest = url.set(username=user, password=None).render_as_string().partition("@")[2]
    (tmp_path / "study.toml").write_text(STUDY)
    return Services(tmp_path, {"postgres_password": PASSWORD, "dashboard_token": TOKEN}, f"@{rest}")


class Process:
    """A service, in a process that has torch already; by its own words where one looks at these, or at its pipes."""

    def __init__(self, services, service, *arguments, held=False, interpreter=False, **variables):
        words, environment = services.command(service, *arguments, **variables)
        environment |= hold(services.folder) if held else {}
        if interpreter:
            self.popen = subprocess.Popen(
                words, env=environment, cwd=services.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        else:
            self.popen = Command(words[3:], services.folder, environment)  # without python -m hpsearch

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.communicate()

    def ended(self, code=0):
        out, err = self.popen.communicate(timeout=PATIENCE)
        assert self.popen.returncode == code, f"exit {self.popen.returncode}\n{out}\n{err}"
        assert not any(secret in out + err for secret in (PASSWORD, TOKEN, "canary"))
        return out + err


def ask(port, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


@pytest.mark.slow
def test_schema_search_workers_and_dashboard(services):
    words, environment = services.command("schema")
    db_url = environment["HPSEARCH_STORAGE"].replace("@", ":" + PASSWORD.replace("%", "%25").replace("@", "%40") + "@")
    db_url = db_url.replace("/word", "%2Fword")
    assert PASSWORD not in " ".join([*words, *environment.values()])

    with Process(services, "schema") as schema, Process(services, "schema") as another:
        said = schema.ended() + another.ended()
    assert said.count("made the tables") == 1
    assert said.count("nothing to do") == 1
    db = open_database(db_url)

    def counts():
        return count_states(db, find_study(db, "coarse"))

    with Process(
        services, "search", "coarse", "-c", "study.toml", "--skip-checks", held=True, interpreter=True
    ) as search:
        wait_until_held(services.folder)
        assert counts()["RUNNING"] == 3
        command_line = Path(f"/proc/{search.popen.pid}/cmdline").read_text()
        assert "canary" not in command_line
        search.popen.send_signal(signal.SIGTERM)  # docker compose stop
        wait_until_told(services.folder)
        go(services.folder)
        search.ended(143)
    assert counts()["RUNNING"] == 0
    assert counts()["WAITING"] == 12

    workers = [Process(services, "worker") for _ in range(2)]  # up --scale worker=2
    with workers[0], workers[1]:
        for worker in workers:
            worker.ended()
    assert sum(counts().values()) == sum(counts()[state] for state in ("COMPLETE", "PRUNED")) == 12
    with db.read() as connection:
        dump = [
            str(row)
            for table in ("study_user_attributes", "study_system_attributes", "trial_user_attributes")
            for row in connection.execute(sa.text(f"SELECT * FROM {table}"))
        ]
    assert dump
    assert "canary" not in "".join(dump)
    db.close()

    port = [word for word in read_compose()["services"]["dashboard"]["command"] if word.isdigit()]
    assert read_compose()["services"]["dashboard"]["ports"][0].endswith(f":{port[0]}")
    words = ["0" if word in port else word for word in read_compose()["services"]["dashboard"]["command"]]
    with Process(services, "dashboard", *words, interpreter=True) as dashboard:
        first = dashboard.popen.stdout.readline()
        assert TOKEN not in first
        here = int(re.search(r":(\d+)/$", first)[1])
        status, body = ask(here, "/api/studies", Authorization=f"Bearer {TOKEN}")
        assert status == 200
        assert [study["study_name"] for study in json.loads(body)["study_summaries"]] == ["coarse"]
        assert ask(here, "/api/studies")[0] == 401
        assert ask(here, "/api/studies", Authorization="Bearer canary-token-9876543210")[0] == 401
        dashboard.popen.send_signal(signal.SIGTERM)
        dashboard.ended(143)


def test_another_password_is_refused_without_being_shown(services):
    (services.folder / "secrets" / "postgres_password").write_text("canary-wrong\n")
    if "HPSEARCH_TEST_POSTGRES" in os.environ:
        pytest.skip("that server may trust everybody")
    with Process(services, "schema") as schema:
        assert "password authentication failed" in schema.ended(1)


def test_a_worker_for_a_stage_that_is_not_there_says_so(services):
    with Process(services, "schema") as schema:
        schema.ended()
    with Process(services, "worker", STUDY="nowhere") as worker:
        assert "nowhere" in worker.ended(2)
