"""Workers on a Ray cluster: Ray places them and sees them die, the queue in the database stays the truth.

A dead worker is followed by a new actor, not by Ray's own restart: each death is heard of here, counted and told, and
the new one starts wherever there is room, on another node too.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Collection
from pathlib import Path
from typing import Any

from typing_extensions import override

from hpsearch.config import RunConfig
from hpsearch.config.usercode import trusted
from hpsearch.errors import HpsearchError
from hpsearch.fleet.launcher import Ended, Launcher, Note
from hpsearch.fleet.processes import KILL_SECONDS
from hpsearch.fleet.ray.cluster import Demand, NoRoomError, import_ray, nodes, room
from hpsearch.fleet.ray.worker import Ending, RemoteJob, WorkerActor
from hpsearch.storage import Database

LATE_SECONDS = 10.0  # for a worker to be placed, before its waiting is told
NO_ROOM_SECONDS = 60.0  # without a node that could hold a worker, before giving up: nodes are replaced


class _Asked:
    """A worker that Ray was asked for; `host` is a future that is ready once it has been placed."""

    def __init__(self, actor: Any, work: Any, host: Any) -> None:
        self.actor, self.work, self.host = actor, work, host
        self.asked_at = time.monotonic()
        self.told = False


class RayLauncher(Launcher):
    """Asks Ray for actors; this process is a driver of the cluster.

    Args:
        db: an open database.
        study: the name of the stage.
        run: settings that the workers share; the password of its storage is given to them in a call.
        demand: what each takes of its node.
    """

    def __init__(self, db: Database, study: str, run: RunConfig, demand: Demand) -> None:
        self._ray = import_ray()
        self._demand = demand
        self._job = make_job(study, run, demand)
        # Two calls at a time: `drain` has to get through while `work` runs.
        self._actor_class = self._ray.remote(WorkerActor).options(
            num_cpus=demand.num_cpus,
            num_gpus=demand.num_gpus,
            max_concurrency=2,
            max_restarts=0,
            scheduling_strategy="SPREAD",
        )
        self._workers: dict[int, _Asked] = {}
        self._num_started = 0
        self._events: deque[Ended | Note] = deque()
        self._room_seen_at = time.monotonic()
        if db.is_sqlite and len(nodes()) > 1:
            self._events.append(
                Note(
                    f"the Ray cluster has {len(nodes())} nodes, but {db.path} is a file: all must see it\n"
                    "on one disk with working locks, which network file systems seldom have; Postgres is made for this"
                )
            )

    @override
    def start(self, place: int) -> int:
        actor = self._actor_class.remote()
        self._num_started += 1
        self._workers[self._num_started] = _Asked(actor, actor.work.remote(self._job), actor.host.remote())
        return self._num_started

    @override
    def next_event(self, seconds: float) -> Ended | Note | None:
        if not self._events:
            self._hear(seconds)
        return self._events.popleft() if self._events else None

    @override
    def unplaced(self) -> Collection[int]:
        if not self._workers:
            return ()
        hosts = [worker.host for worker in self._workers.values()]
        _, missing = self._ray.wait(hosts, num_returns=len(hosts), timeout=0)
        return [number for number, worker in self._workers.items() if worker.host in missing]

    @override
    def end_all(self) -> None:
        waiting = set(self.unplaced())
        working = [worker for number, worker in self._workers.items() if number not in waiting]
        for worker in working:
            worker.actor.drain.remote()
        if working:
            futures = [worker.work for worker in working]
            self._ray.wait(futures, num_returns=len(futures), timeout=KILL_SECONDS)
        for number, worker in self._workers.items():
            self._ray.kill(worker.actor)
            self._events.append(Ended(number, "stopped"))
        self._workers.clear()

    def _hear(self, seconds: float) -> None:
        futures = {worker.work: number for number, worker in self._workers.items()}
        if not futures:
            time.sleep(seconds)
            return
        ended, _ = self._ray.wait(list(futures), timeout=seconds)
        for future in ended:
            self._events.append(self._ended(futures[future]))
        if not ended:
            self._look_for_room()

    def _ended(self, number: int) -> Ended:
        worker = self._workers.pop(number)
        try:
            ending: Ending = self._ray.get(worker.work)
        except self._ray.exceptions.RayActorError as error:
            if getattr(error, "actor_init_failed", False):
                raise HpsearchError(
                    f"a worker cannot start on its node: {_last_line(error)}\nEach node needs hpsearch, as it is here."
                ) from None
            return Ended(number, "died", _how(str(error)))
        except self._ray.exceptions.RayError as error:
            raise HpsearchError(f"a worker cannot start on its node: {_last_line(error)}") from None
        host = self._ray.get(worker.host)
        self._ray.kill(worker.actor)
        if ending.how == "poisoned":
            return Ended(number, "died", "a device that refuses further work", host)
        return Ended(number, ending.how, ending.message, host)

    def _look_for_room(self) -> None:
        """Tell of workers that wait for a place; give up where no node is left that could have one."""
        now = time.monotonic()
        waiting = [self._workers[number] for number in self.unplaced()]
        if len(waiting) < len(self._workers):
            self._room_seen_at = now
        elif now - self._room_seen_at > NO_ROOM_SECONDS:
            if not room(self._demand, nodes()):
                raise NoRoomError(
                    f"no node of the Ray cluster is left that could hold a worker ({self._demand}).\n"
                    "What is finished is kept; the same command goes on when there is one."
                )
            self._room_seen_at = now
        late = [w for w in waiting if not w.told and now - w.asked_at > LATE_SECONDS]
        if late:
            self._events.append(Note(f"{len(late)} of {len(self._workers)} workers wait for room on the Ray cluster"))
        for worker in late:
            worker.told = True


def make_job(study: str, run: RunConfig, demand: Demand) -> RemoteJob:
    """The settings as another process, elsewhere and in another folder, needs them."""
    from hpsearch.storage.urls import parse_url

    storage = parse_url(run.storage)
    if storage.get_backend_name() == "sqlite":
        storage = storage.set(database=str(Path(storage.database or "").absolute()))
    settings = {
        "storage": storage.render_as_string(hide_password=False),
        "data_dir": str(Path(run.data_dir).absolute()),
        "artifact_dir": str(Path(run.artifact_dir).absolute()),
        "device": "cuda:0" if demand.num_gpus else "cpu",  # Ray shows a worker its own GPU alone
        "threads": demand.num_cpus,
    }
    libpq = {name: value for name, value in os.environ.items() if name.startswith("PG")}
    return RemoteJob(study, run.model_copy(update=settings), str(Path.cwd()), trusted(), libpq)


def _how(text: str) -> str:
    """Ray's own account in a few words; when a node dies, it may have noticed its processes only."""
    if "memory" in text.lower():
        return "no memory was left on its node"
    lost = any(sign in text for sign in ("its node has died", "node was terminated", "NODE_DIED"))
    return "its node is lost" if lost else "its process is gone"


def _last_line(error: Exception) -> str:
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
