"""A folder is started once, resumed as what it is, and filled by one process at a time."""
import errno
import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from paths import ROOT

from paddlevideo_skel import manifest
from paddlevideo_skel.errors import DataError, OutputError
from paddlevideo_skel.manifest import LOCK, Manifest, differences, digest, digest_dataset, digest_files, lock, summarize

HOLDER = """
import os, sys, time
from paddlevideo_skel.manifest import lock
held = lock(sys.argv[1])
child = os.fork()
if not child:
    held.release()  # does nothing here
    time.sleep(600)
print(child, flush=True)
time.sleep(600)
"""


def test_differences():
    one = {"a": [1, {"b": 2}], "c": None}
    assert differences(one, {"a": [1, {"b": 2}]}) == []
    assert differences(one, {"a": [1, {"b": 3}], "c": "x"}) == ["a.1.b was 2, is 3", 'c was null, is "x"']
    assert differences(one, {"a": [1]}) == ['a was [1, {"b": 2}], is [1]']
    assert differences({}, {"x": list(range(99))}) == [f"x was null, is {str(list(range(99)))[:59]}…"]
    assert differences({"x": [1]}, {"x": [2]}, "is {}, expected {}") == ["x.0 is 1, expected 2"]
    assert differences([], {}) == ["the content was [], is {}"]


def test_a_summary_of_many_differences():
    lines = differences({str(i): i for i in range(8)}, {})
    assert summarize(lines[:2]) == "0 was 0, is null; 1 was 1, is null"
    assert summarize(lines).endswith("5 was 5, is null; and 2 more")


def test_digests(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_bytes(b"x" * 1_500_000)
    assert digest_files(*paths) == digest("x" * 3_000_000) == digest(b"x" * 3_000_000)
    array = np.arange(6, dtype="float32")
    assert len({digest(array), digest(array.reshape(2, 3)), digest(array.view("int32")), digest(array[::-1])}) == 4
    assert digest(array.reshape(2, 3).T) == digest(np.ascontiguousarray(array.reshape(2, 3).T))


class SmallDataset:
    def __init__(self, labels, scores=None, count=40):
        self.names, self.labels, self.scores = [f"s{i}" for i in range(count)], labels, scores

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        return SimpleNamespace(keypoint=np.full((1, 2, 3), index, "float32"), keypoint_score=self.scores)


def test_the_digest_of_a_data_set():
    labels = np.arange(40)
    datasets = [SmallDataset(None), SmallDataset(labels), SmallDataset(labels[::-1]), SmallDataset(labels, count=39),
                SmallDataset(labels, np.ones(2, "float32"))]
    assert len({digest_dataset(dataset) for dataset in datasets}) == len(datasets)
    assert digest_dataset(SmallDataset(labels)) == "b06960f065d04be1"


def test_start_and_resume(tmp_path):
    record = Manifest(tmp_path / "begun.json", "*.bin")
    content = {"model": "模型 \udc80", "shape": (2, 3), 1: 0.5}
    assert not record.check(content)
    assert not record.start_or_resume(content)
    assert json.loads((tmp_path / "begun.json").read_text("utf-8")) == {
        "model": "模型 \udc80", "shape": [2, 3], "1": 0.5}
    (tmp_path / "0.bin").touch()
    assert record.start_or_resume(content) and record.check(content)


def test_another_content_is_refused(tmp_path):
    Manifest(tmp_path / "begun.json").start_or_resume({"model": "a", "seed": 0})
    with pytest.raises(DataError, match=r'begun.json: the folder was started with different settings: model was "a", '
                       r'is "b"; seed was 0, is null\. Choose another folder, or remove this one'):
        Manifest(tmp_path / "begun.json").start_or_resume({"model": "b"})
    part = Manifest(tmp_path / "begun.json", compared=lambda content: content["seed"])
    assert part.start_or_resume({"model": "b", "seed": 0})


@pytest.mark.parametrize("text, problem", [("{", r"is damaged \(JSONDecodeError"), ("[]", "expected a JSON object"),
                                           ("[" * 100_000, "is damaged"), ("\0", "is damaged")])
def test_a_damaged_manifest_is_refused(tmp_path, text, problem):
    (tmp_path / "begun.json").write_text(text)
    with pytest.raises(DataError, match=problem):
        Manifest(tmp_path / "begun.json").start_or_resume({})
    assert (tmp_path / "begun.json").read_text() == text


def test_files_of_something_else_are_not_taken_over(tmp_path):
    (tmp_path / "0.bin").touch()
    with pytest.raises(DataError, match=r"contains \*\.bin but no begun\.json: they were not written by this tool"):
        Manifest(tmp_path / "begun.json", "*.bin").start_or_resume({})
    assert not (tmp_path / "begun.json").exists()


def test_another_process_is_kept_out_until_the_holder_is_killed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path / "out"], cwd=ROOT, stdout=subprocess.PIPE,
                          text=True) as holder:
        child = int(holder.stdout.readline())
        try:
            with pytest.raises(OutputError, match=rf"out: another import is writing there \(process {holder.pid} on "
                                                  r"\S+, since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\)\. Wait for it"):
                lock(tmp_path / "out", "import", "Wait for it")
        finally:
            holder.kill()
            holder.wait()
        os.kill(child, 0)  # lives on, as a loader's worker may for a moment: it keeps nobody out
        with lock(tmp_path / "out"):
            os.kill(child, signal.SIGKILL)
    assert not (tmp_path / "out" / LOCK).exists()


def test_the_lock_within_a_process(tmp_path):
    first = lock(tmp_path)
    with pytest.raises(OutputError, match=r"another run is writing there \(in this process\)"):
        lock(tmp_path / ".." / tmp_path.name)
    first.release()
    first.release()
    with lock(tmp_path) as second:
        first.release()
        with pytest.raises(OutputError, match="in this process"):
            lock(tmp_path)
        (tmp_path / LOCK).unlink()
    assert second is not first


def test_a_holder_that_does_not_name_itself(tmp_path):
    for text in ("", "{", "[]", '{"pid": 1}'):
        (tmp_path / LOCK).write_text(text)
        assert manifest.describe_holder(tmp_path / LOCK) == "it has only just started"


def test_a_lock_file_that_its_holder_removes_meanwhile(tmp_path, monkeypatch):
    real, calls = manifest.lock_descriptor, []

    def removed_first(descriptor, blocking):
        calls.append(descriptor)
        if len(calls) == 1:
            (tmp_path / LOCK).unlink()
        return real(descriptor, blocking=blocking)

    monkeypatch.setattr(manifest, "lock_descriptor", removed_first)
    with lock(tmp_path):
        assert len(calls) == 2 and json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()


def test_a_file_system_without_locks(tmp_path, monkeypatch, caplog):
    def missing(descriptor, blocking):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(manifest, "lock_descriptor", missing)
    with (caplog.at_level("WARNING", "paddlevideo_skel"), lock(tmp_path),
          pytest.raises(OutputError, match="in this process")):
        lock(tmp_path)
    assert "this file system has no locks (No locks available)" in caplog.text


def test_a_lock_file_that_cannot_be_opened(tmp_path):
    (tmp_path / LOCK).mkdir()
    for _ in range(2):
        with pytest.raises(OutputError, match=r"\.run\.lock: cannot be written \(Is a directory\)"):
            lock(tmp_path)
