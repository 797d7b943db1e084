"""What trials print: kept by trial, in files of a bounded size."""

import os
import re

import pytest

from hpsearch.config.schema import ObjectiveConfig
from hpsearch.config.usercode import trust
from hpsearch.programs.messages import Ended, Task
from hpsearch.programs.output import HEAD, TAIL, CappedFile, OutputReader
from hpsearch.programs.program import Program

CODE = """
import subprocess, sys
LINE = "x" * 99

def loud(params, report):
    print("first of", params["n"])
    for _ in range(params["lines"]):
        print(LINE)
    subprocess.run(["echo", "a child of", str(params["n"])])
    print("last of", params["n"], file=sys.stderr)
    return 1.0
"""


@pytest.mark.parametrize("num", [10, HEAD, HEAD + TAIL, HEAD + TAIL + 1, 5 * (HEAD + TAIL) + 7])
@pytest.mark.parametrize("chunk", [2**16, 10_007])
def test_a_file_has_the_beginning_and_the_end_and_says_what_is_missing(tmp_path, num, chunk):
    data = os.urandom(num)
    file = CappedFile(tmp_path / "out")
    for place in range(0, num, chunk):
        file.write(data[place : place + chunk])
        assert (tmp_path / "out").stat().st_size <= HEAD + 2 * TAIL + chunk
    file.close()
    kept = (tmp_path / "out").read_bytes()
    if num <= HEAD + TAIL:
        assert kept == data
        return
    note = re.search(rb"\n\[hpsearch: (\d+) bytes are left out here\]\n", kept)
    assert kept[: note.start()] == data[:HEAD]
    assert kept[note.end() :] == data[-TAIL:]
    assert int(note[1]) == num - HEAD - TAIL


def test_another_attempt_adds_to_what_is_there(tmp_path):
    for letter in b"abc":
        file = CappedFile(tmp_path / "out")
        file.write(bytes([letter]) * (HEAD + TAIL))
        file.close()
    kept = (tmp_path / "out").read_bytes()
    assert kept[:HEAD] == b"a" * HEAD
    assert kept[-TAIL:] == b"c" * TAIL
    assert f"{2 * (HEAD + TAIL)} bytes are left out".encode() in kept


def test_what_is_printed_after_a_trial_is_not_the_next_ones(tmp_path):
    read, write = os.pipe()
    reader = OutputReader(read)
    for number in range(3):
        reader.begin(str(tmp_path / str(number)))
        os.write(write, b"%d" % number)
        reader.end()
        os.write(write, b"late")
    reader.close()
    os.close(write)
    assert [(tmp_path / str(number)).read_bytes() for number in range(3)] == [b"0", b"1", b"2"]


def test_a_loud_function_and_its_children_are_heard_to_the_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loudcode.py").write_text(CODE)
    trust("loudcode")
    program = Program(ObjectiveConfig(function="loudcode:loud"))
    try:
        for number, lines in ((0, 30_000), (1, 2)):
            program.begin(Task(number, {"n": number, "lines": lines}, output=f"{number}.txt"))
            assert program.next(60) == Ended(1.0)
    finally:
        program.end()
    loud, short = ((tmp_path / f"{number}.txt").read_text() for number in (0, 1))
    assert loud.startswith("first of 0\nxxx")
    assert loud.endswith("a child of 0\nlast of 0\n") or loud.endswith("last of 0\n")
    assert "bytes are left out here" in loud
    assert len(loud) < 2**20 + 100
    assert sorted(short.splitlines()) == sorted(["first of 1", *["x" * 99] * 2, "a child of 1", "last of 1"])
