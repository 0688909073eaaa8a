"""Processes that read, and seeds, made once; a session of counted cases for each test."""
from importlib.util import find_spec

import pytest

pytest.importorskip("resource", reason="the limits of the reading process are those of Unix")

from fuzz_harness import Child, Session


@pytest.fixture(scope="session")
def children():
    made = {table: Child(table) for table in ("fuzz_readers", "fuzz_unsafe_readers", "fuzz_paddle_readers")}
    yield made
    for child in made.values():
        child.close()


@pytest.fixture
def session(children, tmp_path):
    """Cases for the readers that need no paddle."""
    return Session(children["fuzz_readers"], tmp_path / "cases")


@pytest.fixture(scope="session")
def seeds_of(tmp_path_factory):
    """A function: the seeds of a group, made once."""
    from fuzz_seeds import GROUPS

    known = {}

    def seeds_of(group):
        if group == "road":
            pytest.importorskip("onnx", reason="the export among its seeds is an ONNX model")
        if group not in known:
            known[group] = list(GROUPS[group](tmp_path_factory.mktemp(group)))
        return known[group]
    return seeds_of


@pytest.fixture
def bases(seeds_of):
    """Reader → its files, whole; without those of an export where onnx is not installed."""
    from fuzz_seeds import GROUPS

    files = {}
    for group in GROUPS:
        if group == "road" and not find_spec("onnx"):
            continue
        for seed in seeds_of(group):
            files.setdefault(seed.reader, dict(seed.files))
    return files
