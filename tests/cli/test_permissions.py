"""Files and folders without permission to read or write: one line, status 2, and finished work is kept.

Everything runs in processes without root's right to ignore permissions.
"""
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from raw_files import write_kinetics, write_ntu
from small_config import HARD
from training_runs import assert_same_end, content
from unprivileged import DROP

from paddlevideo_skel.safe_pickle import load_pickle

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="drops root's rights, Linux only")

CODE = DROP + """
import contextlib, io, json, os, sys
from paddlevideo_skel.cli import run_command

def run(command, *arguments):
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        status = run_command(command, list(arguments))
    return [status, said.getvalue()]
"""


def unprivileged(code):
    """The value of ``found`` after ``CODE`` and ``code``."""
    done = subprocess.run([sys.executable, "-c", f"{CODE}\n{code}\nprint(json.dumps(found))"], capture_output=True,
                          text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run(*command):
    """``(status, standard error)`` of a command."""
    return unprivileged(f"found = run(*{list(map(str, command))!r})")


def refused(answer, *words):
    status, said = answer
    assert status == 2 and said.startswith("error: ") and said.count("\n") == 1, said
    assert "Permission denied" in said and all(str(word) in said for word in words), said
    return True


@pytest.fixture
def chmod():
    """Changes a path's mode until the end of the test."""
    before = []

    def change(path, mode):
        before.append((path, path.stat().st_mode))
        path.chmod(mode)

    yield change
    for path, mode in reversed(before):
        if path.exists():
            path.chmod(mode)


def test_permissions_count_here(tmp_path, chmod):
    """Otherwise, the other tests would show nothing."""
    chmod(tmp_path, 0o555)
    assert unprivileged(f"found = os.access({str(tmp_path)!r}, os.W_OK)") is False


# Training


def test_an_output_folder_that_cannot_be_written(runner, shared_config, tmp_path, chmod):
    folder = tmp_path / "locked" / "out"
    folder.parent.mkdir()
    chmod(folder.parent, 0o555)
    status, output = runner.run(shared_config, tmp_path / "run", overrides=[f"output_dir={folder}"], prelude=DROP)
    assert refused((status, output), f"{folder}: the output folder cannot be written")


def test_data_that_may_not_be_read(runner, shared_config, sample_set, tmp_path, chmod):
    data = tmp_path / "ntu_3d.pkl"
    data.write_bytes((sample_set / "ntu_3d.pkl").read_bytes())
    chmod(data, 0)
    status, output = runner.run(shared_config, tmp_path / "out", "--validate", prelude=DROP,
                                  overrides=[f"DATASET.valid.file_path={data}"])
    assert refused((status, output[output.index("error: "):]), f"{data}: cannot be read")


READ_ONLY = """
real, states = os.replace, []
def replace(source, target):
    real(source, target)
    states.append(str(target).endswith(".pdstate"))
    if sum(states) == {count}:
        os.chmod({folder!r}, 0o555)
os.replace = replace
"""


@pytest.mark.parametrize("count", [1, 3])
def test_a_run_whose_folder_becomes_read_only_can_be_resumed(runner, shared_config, unbroken, tmp_path, chmod, count):
    """Read-only after the first state, within an epoch, and after the one at the end of an epoch."""
    folder = tmp_path / "out"
    folder.mkdir()
    chmod(folder, 0o755)
    status, output = runner.run(shared_config, folder, "--validate", overrides=HARD,
                                  prelude=DROP + READ_ONLY.format(count=count, folder=str(folder)))
    assert status == 2 and "Traceback" not in output, output
    assert refused((status, output[output.index("error: "):]), "cannot be written")
    assert "small_last.pdstate" in content(folder)
    folder.chmod(0o755)
    status, output = runner.run(shared_config, folder, "--validate", "--resume", overrides=HARD, prelude=DROP)
    assert status == 0 and "Resumed at epoch " in output
    assert_same_end(folder, unbroken)


def test_a_home_that_cannot_be_written_only_costs_the_curves(shared_config, tmp_path, chmod):
    """VisualDL makes a folder there when it is imported; users of containers often have no such home."""
    pytest.importorskip("visualdl")
    home = tmp_path / "home"
    home.mkdir()
    chmod(home, 0o555)
    done = subprocess.run([sys.executable, "-c", DROP + f"""
import sys
from paddlevideo_skel.cli import run_command
sys.exit(run_command("train", ["-c", {str(shared_config)!r}, "--max_iters", "1", "-o", "epochs=1", "-o",
                               "output_dir={tmp_path / 'out'}"]))"""], env={**os.environ, "HOME": str(home)},
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"VisualDL cannot be used; no curves are written \(\S+visualdl: Permission denied\)", done.stdout)
    assert "training small finished" in done.stdout


def test_curves_that_cannot_be_written(runner, shared_config, tmp_path, chmod):
    pytest.importorskip("visualdl")
    (tmp_path / "out" / "vdl").mkdir(parents=True)
    chmod(tmp_path / "out" / "vdl", 0o555)
    status, output = runner.run(shared_config, tmp_path / "out", prelude=DROP)
    assert refused((status, output[output.index("error: "):]), "vdl: the output folder cannot be written")


# Importers and the other data tools


@pytest.fixture
def raw(tmp_path):
    """40 raw files of each kind, and a read-only folder."""
    write_ntu(tmp_path / "ntu", 40, frames=(14, 16))
    write_kinetics(tmp_path / "kinetics", "train", 52)
    rng = np.random.default_rng(0)
    for i in range(40):
        (tmp_path / "own" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "own" / "ab"[i % 2] / f"{i:02d}.npy", rng.normal(0, 1, (12, 17, 2)))
    (tmp_path / "locked").mkdir()
    return tmp_path


def importing(raw, output):
    """Command lines by the kind of the raw files; ``output`` is a folder."""
    return {"ntu": ["import-ntu", raw / "ntu", "-o", output, "--workers", "1"],
            "kinetics": ["import-kinetics", raw / "kinetics", "-o", output, "--part", "train", "--workers", "1"],
            "own": ["import-keypoints", "--input", raw / "own", "--layout", "coco", "--out", output / "own.pkl"]}


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


STOP_WRITING = """
from paddlevideo_skel.importers.journal import Journal
real = Journal.append
def append(self, *arguments):
    real(self, *arguments)
    os.chmod(self.folder.parent, 0o555)
Journal.append = append
"""


@pytest.mark.parametrize("kind", ["ntu", "kinetics", "own"])
def test_an_import_without_permission_is_resumed_later(raw, chmod, kind):
    """Into a folder that is read-only from the start, and into one that becomes so while it reads."""
    whole, broken, locked = raw / "whole", raw / "broken", raw / "locked"
    chmod(locked, 0o555)
    assert refused(run(*importing(raw, locked)[kind]), locked, "cannot be written")
    assert run(*importing(raw, whole)[kind])[0] == 0
    command = list(map(str, importing(raw, broken)[kind]))
    broken.mkdir()
    chmod(broken, 0o755)
    first = unprivileged(f"{STOP_WRITING}\nfound = run(*{command!r})")
    assert refused(first, broken, "cannot be written")
    known, = (path.read_bytes().count(b"\n") for path in broken.glob(".import-*/journal.jsonl"))
    assert known == {"ntu": 40, "kinetics": 39, "own": 40}[kind]
    broken.chmod(0o755)
    assert run(*command) == [0, ""]
    found, expected = files_of(broken), files_of(whole)
    config = next((path for path in expected if path.suffix == ".yaml"), None)
    if config:  # it has the path of its data
        assert found.pop(config) == expected.pop(config).replace(str(whole).encode(), str(broken).encode())
    assert found == expected


def test_raw_files_that_may_not_be_read(raw, chmod):
    """NTU's and Kinetics' are skipped and listed, like damaged ones; your own are an error, and so is a folder."""
    bad = {kind: sorted(path for path in (raw / kind).rglob(f"*{suffix}") if path.stat().st_size > 100)[5]
           for kind, suffix in (("ntu", ".skeleton"), ("kinetics", "0.json"), ("own", ".npy"))}
    for path in bad.values():
        chmod(path, 0)
    commands = importing(raw, raw / "out")
    for kind, listing in (("ntu", "ntu60_skipped.tsv"), ("kinetics", "train_skipped.tsv")):
        assert run(*commands[kind])[0] == 0
        reason = dict(line.split("\t") for line in (raw / "out" / listing).read_text().splitlines())[bad[kind].name]
        assert reason == "damaged: cannot be read (Permission denied)"
        assert refused(run(*commands[kind], "--strict"), bad[kind])
    assert refused(run(*commands["own"]), bad["own"])
    bad["own"].chmod(0o644)
    chmod(raw / "own" / "b", 0)
    assert refused(run(*commands["own"]), raw / "own" / "b")  # not a set without the class b
    assert not (raw / "out" / "own.pkl").exists()


def test_tools_that_may_not_read_or_write(raw, sample_set, chmod):
    locked, data = raw / "locked", raw / "ntu_3d.pkl"
    data.write_bytes((sample_set / "ntu_3d.pkl").read_bytes())
    array = sample_set / "ntu" / "xsub" / "val_data.npy"
    chmod(locked, 0o555)
    parts = ["--parts", "a=0.5", "b=0.5"]
    commands = [["split-data", data, "-o", locked / "x.pkl", *parts], ["split-data", array, "-o", locked, *parts],
                ["convert-data", data, "-o", locked / "x"], ["convert-data", array, "-o", locked / "x.pkl"],
                ["inspect-data", data, "--json", locked / "x.json"]]
    for command in commands:
        assert refused(run(*command), locked, "cannot be written")
    chmod(data, 0)
    for command in (["split-data", data, "-o", raw / "x.pkl", *parts], ["convert-data", data, "-o", raw / "x"],
                    ["inspect-data", data], ["import-hrnet", data, "--kpfiles", raw / "own", "--out", raw / "x.pkl"]):
        assert refused(run(*command), data, "cannot be read")
    assert len(load_pickle(sample_set / "ntu_3d.pkl")["annotations"]) == 48  # the input of all this is as it was
    assert not list(locked.iterdir()) and not (raw / "x.pkl").exists()
