"""Workers on a Ray cluster: Ray places them and sees them die, the queue in the database stays the truth.

A dead worker is followed by a new actor, not by Ray's own restart: each death is heard of here, counted and told, and
the new one starts wherever there is room, on another node too.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from hpsearch.analysis import attributes
from hpsearch.config import RunConfig
from hpsearch.config.usercode import trusted
from hpsearch.errors import HpsearchError
from hpsearch.fleet.deaths import Deaths, resuming
from hpsearch.fleet.forking import KILL_SECONDS
from hpsearch.fleet.ray.cluster import Demand, NoRoomError, import_ray, nodes, room
from hpsearch.fleet.ray.worker import Ended, Job, WorkerActor
from hpsearch.fleet.stage_follower import StageFollower
from hpsearch.fleet.supervisor import POLL_SECONDS
from hpsearch.stages.listener import Listener
from hpsearch.storage import Database, Queue, StorageAwayError, StudyRow, new_worker_id
from hpsearch.training.checkpoints import Checkpoints, checkpoint_folder
from hpsearch.worker import spool
from hpsearch.worker.stopping import Stop

PATIENCE_SECONDS = 10.0  # for a worker to be placed, before its waiting is told
NO_ROOM_SECONDS = 60.0  # without a node that could hold a worker, before giving up: nodes are replaced


class _Placed:
    """A worker that Ray was asked for; `host` is a future that is ready once it has been placed."""

    def __init__(self, actor: Any, host: Any) -> None:
        self.actor, self.host = actor, host
        self.asked_at = time.monotonic()
        self.told = False


class RayFleet:
    """Runs workers on one stage until it is done; this process is a driver of the cluster.

    Args:
        db: an open database.
        url: of the same, with its password: given to the workers in a call, never by argument or environment.
        study: the stage.
        run: settings that the workers share.
        num_workers: how many.
        demand: what each takes of its node.
        listener: hears of each trial.
        stop: asked whether to go on.
    """

    def __init__(
        self,
        db: Database,
        url: str,
        study: StudyRow,
        run: RunConfig,
        num_workers: int,
        demand: Demand,
        listener: Listener,
        stop: Stop,
    ) -> None:
        self.db, self.study, self.listener, self.stop = db, study, listener, stop
        self.num_workers, self.demand = num_workers, demand
        self.lease_seconds = run.lease_seconds
        self.ray = import_ray()
        self.spool_folder = Path(run.artifact_dir) / "spool"
        name = checkpoint_folder(study.attrs[attributes.FINGERPRINT], study.study_id)
        self.checkpoints = Checkpoints(Path(run.artifact_dir) / "checkpoints", name)
        self.queue = Queue(db, study, new_worker_id())
        self.watch = StageFollower(db, study, listener)
        self.job = make_job(study.name, url, run, demand)
        # Two calls at a time: `drain` has to get through while `work` runs.
        self.actor_class = self.ray.remote(WorkerActor).options(
            num_cpus=demand.num_cpus,
            num_gpus=demand.num_gpus,
            max_concurrency=2,
            max_restarts=0,
            scheduling_strategy="SPREAD",
        )
        self.workers: dict[Any, _Placed] = {}
        self.deaths = Deaths()
        self.room_seen_at = time.monotonic()

    def run(self) -> None:
        """Place the workers, replace those that die, return when the stage is done.

        Raises:
            HpsearchError: a worker gave up for good, workers keep dying, or no node is left that could hold one.
            Stopped: a stop was asked for; the workers have given their trials back.
        """
        self.watch.begin()
        self._release()
        self._warn_of_sqlite()
        try:
            for _ in range(self.num_workers):
                self._start()
            while self.workers and not self._is_done():
                self._look()
        finally:
            self._end_all()
            self._release()
            self.watch.look()

    def _warn_of_sqlite(self) -> None:
        if self.db.is_sqlite and len(nodes()) > 1:
            self.listener.note(
                f"the Ray cluster has {len(nodes())} nodes, but {self.db.path} is a file: all must see it\n"
                "on one disk with working locks, which network file systems seldom have; Postgres is made for this"
            )

    def _is_done(self) -> bool:
        """Workers that still wait for a place would wait for nothing."""
        if self.watch.num_waiting:
            return False
        try:
            standing = self.queue.standing()
        except StorageAwayError:
            return False
        return not (standing.num_waiting or standing.num_running)

    def _start(self) -> None:
        actor = self.actor_class.remote()
        self.workers[actor.work.remote(self.job)] = _Placed(actor, actor.host.remote())

    def _look(self) -> None:
        ended, _ = self.ray.wait(list(self.workers), timeout=POLL_SECONDS)
        self.stop.raise_if_requested()
        self.deaths.hear(self.watch.look())
        for future in ended:
            self._bury(future)
        self._look_for_room()

    def _bury(self, future: Any) -> None:
        """Take what a worker leaves, and put another one in its place if it died."""
        worker = self.workers.pop(future)
        try:
            ended: Ended = self.ray.get(future)
        except self.ray.exceptions.RayActorError as error:
            if getattr(error, "actor_init_failed", False):
                raise HpsearchError(
                    f"a worker cannot start on its node: {_last_line(error)}\nEach node needs hpsearch, as it is here."
                ) from None
            self._replace(_how(str(error)))
            return
        except self.ray.exceptions.RayError as error:
            raise HpsearchError(f"a worker cannot start on its node: {_last_line(error)}") from None
        host = self.ray.get(worker.host)
        self.ray.kill(worker.actor)
        if ended.how == "gave up":
            raise HpsearchError(f"a worker on {host} gave up: {ended.message}")
        if ended.how == "poisoned":
            self._replace("a device that refuses further work")
        elif ended.how == "stopped":  # by `hpsearch stop`; one that started now would not know of it
            self._end_all()

    def _replace(self, how: str) -> None:
        self.deaths.add(how)
        numbers = self._release()
        self._start()
        later = f"what it held goes on when its leases run out, within {self.lease_seconds:g} s"
        self.listener.note(f"worker died ({how}), {resuming(self.checkpoints, numbers) or later}")

    def _look_for_room(self) -> None:
        """Tell of workers that wait for a place; give up where no node is left that could have one."""
        now = time.monotonic()
        waiting = self._waiting()
        if len(waiting) < len(self.workers):
            self.room_seen_at = now
        elif now - self.room_seen_at > NO_ROOM_SECONDS:
            if not room(self.demand, nodes()):
                raise NoRoomError(
                    f"no node of the Ray cluster is left that could hold a worker ({self.demand}).\n"
                    "What is finished is kept; the same command goes on when there is one."
                )
            self.room_seen_at = now
        late = [w for w in waiting if not w.told and now - w.asked_at > PATIENCE_SECONDS]
        if late:
            self.listener.note(f"{len(late)} of {len(self.workers)} workers wait for room on the Ray cluster")
        for worker in late:
            worker.told = True

    def _waiting(self) -> list[_Placed]:
        """Those that have no process yet."""
        if not self.workers:
            return []
        hosts = [worker.host for worker in self.workers.values()]
        _, missing = self.ray.wait(hosts, num_returns=len(hosts), timeout=0)
        return [worker for worker in self.workers.values() if worker.host in missing]

    def _release(self) -> list[int]:
        """What dead workers of this host had in their hands waits again at once; other hosts' leases run out."""
        try:
            spool.recover(self.db, self.spool_folder)
            return self.queue.release_dead()
        except StorageAwayError:
            return []

    def _end_all(self) -> None:
        """Drain all that work, wait for them, end those that do not follow and those without a place at once."""
        waiting = {id(worker) for worker in self._waiting()}
        working = {future: worker for future, worker in self.workers.items() if id(worker) not in waiting}
        for worker in working.values():
            worker.actor.drain.remote()
        if working:
            self.ray.wait(list(working), num_returns=len(working), timeout=KILL_SECONDS)
        for worker in self.workers.values():
            self.ray.kill(worker.actor)
        self.workers.clear()


def make_job(study: str, url: str, run: RunConfig, demand: Demand) -> Job:
    """The settings as another process, elsewhere and in another folder, needs them."""
    from hpsearch.storage.urls import parse_url

    storage = parse_url(url)
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
    return Job(study, run.model_copy(update=settings), str(Path.cwd()), trusted(), libpq)


def _how(text: str) -> str:
    """Ray's own account in a few words; when a node dies, it may have noticed its processes only."""
    if "memory" in text.lower():
        return "no memory was left on its node"
    lost = any(sign in text for sign in ("its node has died", "node was terminated", "NODE_DIED"))
    return "its node is lost" if lost else "its process is gone"


def _last_line(error: Exception) -> str:
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
