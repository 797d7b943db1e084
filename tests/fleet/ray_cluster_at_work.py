"""A Ray cluster of several nodes on this machine, in a process of its own: `python ray_cluster_at_work.py '[...]'`.

The argument lists the nodes, as Cluster.add_node takes them; the first is the head. On standard output: the address and
the process ids of the nodes' raylets. On standard input: `node N` is the death of node N, all its processes at once,
`raylet N` that of its raylet alone; the end of the input ends the cluster.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main():
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    folder = tempfile.mkdtemp(prefix="ray")  # a short path: sockets lie in it
    nodes = [
        cluster.add_node(**{"include_dashboard": False, "temp_dir": folder, **options})
        for options in json.loads(sys.argv[1])
    ]
    raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
    print(json.dumps({"address": cluster.address, "folder": folder, "raylets": raylets}), flush=True)
    for line in sys.stdin:
        what, number = line.split()[0], int(line.split()[1])
        below = descendants(raylets[number]) if what == "node" else []
        for pid in (raylets[number], *below):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        print("killed", flush=True)
        cluster.remove_node(nodes[number], allow_graceful=False)
    cluster.shutdown()


class RayCluster:
    """The same from a test's side."""

    def __init__(self, *nodes):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HPSEARCH_")}
        self.process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(nodes)],
            env={**environment, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        started = json.loads(self.process.stdout.readline())
        self.address, self.folder, self.raylets = started["address"], Path(started["folder"]), started["raylets"]

    def kill(self, what, number):
        self.process.stdin.write(f"{what} {number}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "killed\n"

    def workers(self, number):
        """Process ids of those who work for hpsearch on a node."""
        return [pid for pid in descendants(self.raylets[number]) if title(pid).startswith("ray::WorkerActor")]

    def close(self):
        """End all of it; whatever is left of it is killed, and named."""
        known = descendants(self.process.pid)
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        deadline = time.monotonic() + 15
        while (left := [pid for pid in known if is_alive(pid)]) and time.monotonic() < deadline:
            time.sleep(0.05)
        names = [title(pid) for pid in left]
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)
        return names


def is_alive(pid):
    """A zombie, whom nobody has waited for yet, is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def title(pid):
    """What `ps` shows of a process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def descendants(pid):
    """Process ids of all below this one."""
    children = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int(Path(entry.path, "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, below = [], [pid]
    while below:
        below = [child for parent in below for child in children.get(parent, [])]
        found += below
    return found


if __name__ == "__main__":
    main()
