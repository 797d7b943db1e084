"""The real dashboard server under the refresh of its own page: clients that ask as the page does, only more often.

The page asks for its study every 2 s below 100 trials, every 5 s below 500 and every 10 s above, from the first trial
that has not finished. Beside it, the server that optuna-dashboard brings along. Prints JSON: for each server and number
of clients (0: the first look after a start), latency (ms) and size (kB) of each kind of request, its memory, and
its time on the processor, which a busy machine does not stretch.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.planting import plant
from hpsearch.runtime import num_cores
from hpsearch.storage import open_database


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks dashboard", description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--seconds", type=float, default=20, help="for each number of clients")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between two refreshes; the page waits 10")
    given = parser.parse_args(arguments)

    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/studies.db"
        db = open_database(url, create=True)
        plant(db, "finished", given.trials, given.epochs)
        plant(db, "half-way", given.trials, given.epochs, num_waiting=given.trials // 2)
        db.close()
        rows = [row for name, start in SERVERS.items() for row in _measured(name, start, url, given)]
    versions = {name: metadata.version(name) for name in ("optuna", "optuna-dashboard")}
    work = f"2 studies of {given.trials} trials x {given.epochs} epochs, a refresh every {given.interval} s"
    about = {"work": work, "cores": num_cores(), "versions": {**versions, "python": platform.python_version()}}
    print(json.dumps({**about, "rows": rows}, indent=2))


def _measured(name: str, start, url: str, given: argparse.Namespace) -> list[dict]:
    server, address = start(url)
    try:
        rows = [{"server": name, "clients": 0, "requests": _summary(_first_look(address))}]
        rows[0] |= _used(server.pid)
        for num_clients in given.clients:
            times = _load(address, num_clients, given)
            row = {"server": name, "clients": num_clients, "requests": _summary(times)}
            rows.append({**row, **_used(server.pid)})
    finally:
        server.terminate()
        server.communicate()
    return rows


def _start_ours(url: str) -> tuple[subprocess.Popen, str]:
    command = [sys.executable, "-m", "hpsearch", "dashboard", "--port", "0", "--json", "--storage", url]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    return server, urlsplit(json.loads(server.stdout.readline())["url"]).netloc


def _start_plain(url: str) -> tuple[subprocess.Popen, str]:
    """optuna-dashboard as its own command starts it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code = f"import optuna_dashboard; optuna_dashboard.run_server({url!r}, '127.0.0.1', {port})"
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # it writes a line for each request
    server = subprocess.Popen([sys.executable, "-c", code], **silent)
    while server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except ConnectionRefusedError:
            time.sleep(0.1)
    return server, f"127.0.0.1:{port}"


SERVERS = {"hpsearch": _start_ours, "optuna-dashboard": _start_plain}


def _first_look(address: str) -> dict[str, list[tuple[float, int]]]:
    """What opening the page asks for, when nobody has asked before."""
    times: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for path in ("/dashboard", "/static/bundle.js", "/api/meta", "/api/studies", "/api/studies/1?after=0"):
        times[path].append(_get(address, path)[:2])
    return times


def _load(address: str, num_clients: int, given: argparse.Namespace) -> dict[str, list[tuple[float, int]]]:
    times: dict[str, list[tuple[float, int]]] = defaultdict(list)
    end = time.monotonic() + given.seconds

    def client(number: int) -> None:
        time.sleep(number * given.interval / num_clients)
        after = {1: 0, 2: 0}
        rounds = itertools.count()
        while next(rounds) < 2 or time.monotonic() < end:  # opened and refreshed once, however slow the server
            start = time.monotonic()
            times["list"].append(_get(address, "/api/studies")[:2])
            for study, name in ((1, "finished"), (2, "half-way")):
                kind = f"{name}, refresh" if after[study] else f"{name}, opened"
                seconds, size, body = _get(address, f"/api/studies/{study}?after={after[study]}")
                times[kind].append((seconds, size))
                if not after[study]:
                    states = [trial["state"] for trial in json.loads(body)["trials"]]
                    open_ = [place for place, state in enumerate(states) if state in ("Running", "Waiting")]
                    after[study] = open_[0] if open_ else len(states)
            time.sleep(max(0.0, given.interval - (time.monotonic() - start)))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(num_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


def _get(address: str, path: str) -> tuple[float, int, bytes]:
    import gzip

    connection = http.client.HTTPConnection(address, timeout=120)
    start = time.perf_counter()
    connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
    answer = connection.getresponse()
    body = answer.read()
    seconds = time.perf_counter() - start
    connection.close()
    assert answer.status == 200, (path, answer.status, body[:200])
    return seconds, len(body), gzip.decompress(body) if answer.headers["Content-Encoding"] == "gzip" else body


def _summary(times: dict[str, list[tuple[float, int]]]) -> dict[str, dict[str, float]]:
    found = {}
    for kind, measured in times.items():
        milliseconds = sorted(1000 * seconds for seconds, _ in measured)
        found[kind] = {
            "num": len(measured),
            "p50_ms": round(statistics.median(milliseconds), 1),
            "p95_ms": round(milliseconds[min(len(milliseconds) - 1, int(0.95 * len(milliseconds)))], 1),
            "kb": round(statistics.median(size for _, size in measured) / 1000, 1),
        }
    return found


def _used(pid: int) -> dict[str, float]:
    """Resident memory (MB) and time on the processor so far (s), where the system says them."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:
        return {}
    cpu = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    return {"memory_mb": round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6), "cpu_s": round(cpu, 1)}


if __name__ == "__main__":
    main([])
