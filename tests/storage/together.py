"""What the processes of a test do; a module of its own, so that they can import it."""

import time

from hpsearch.config import FloatRange
from hpsearch.errors import StorageError
from hpsearch.results import EpochResult
from hpsearch.storage import (
    ChosenParams,
    NewTrial,
    Outcome,
    Queue,
    StudyExistsError,
    create_stage,
    find_study,
    init_storage,
    new_worker_id,
    open_database,
    upgrade_storage,
)

NUM_PROCESSES = 4
_barrier = None


def set_barrier(barrier):
    global _barrier
    _barrier = barrier


def at_once(function, args):
    _barrier.wait(timeout=600)
    return function(*args)


def open_fresh(url):
    db = open_database(url, create=True)
    found = db.has_own_tables()
    db.close()
    return found


def init(url):
    return init_storage(url)[1]


def upgrade(url):
    return upgrade_storage(url).before


def create_same_stage(url):
    db = open_database(url)
    try:
        create_stage(db, "one", "maximize", {}, {}, [NewTrial() for _ in range(20)])
        return "created"
    except StudyExistsError:
        return "exists"
    except StorageError as error:
        return repr(error)
    finally:
        db.close()


def work(url, study_name, num_trials, limit, lease_seconds):
    """Take and finish trials until all are finished; the numbers that this process finished."""
    db = open_database(url)
    study = find_study(db, study_name)
    queue = Queue(db, study, new_worker_id(), lease_seconds)
    done = []
    deadline = time.monotonic() + 600
    while queue.standing().num_finished < num_trials:
        assert time.monotonic() < deadline, queue.standing()
        if leases := queue.take(limit):
            queue.record(
                [(lease, EpochResult(lease.number, 1, 1.0, 1.0, 0.5, 1.0, 0.5, 1e-3, 0.1)) for lease in leases]
            )
            held = queue.renew(leases)
            outcomes = [Outcome(lease, "COMPLETE", lease.number / num_trials) for lease in held]
            lost = queue.finish(outcomes)
            done += [lease.number for lease in held if lease not in lost]
    db.close()
    return done


def choose_all(url, study_name):
    """Take each trial that is free, and give it the least number that no other one has got; those of this process."""
    db = open_database(url)
    queue = Queue(db, find_study(db, study_name), new_worker_id())
    given = []

    def choose(rows):
        taken = {row.params["x"] for row in rows if row.params}
        return ChosenParams({"x": float(len(taken))}, {"x": FloatRange(0, 1000)}, {"taken": len(taken)})

    while leases := queue.take(1):
        lease = queue.choose_params(leases[0], choose)
        given.append((lease.params["x"], lease.attrs["taken"]))
    db.close()
    return given
