"""Shards on a Ray cluster of this host: the same folders, though a worker dies; and errors that tell the shard."""
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from bin_cases import arguments, config_of, content, make_data
from deploy_cases import filled, sequence, write_set
from paths import ROOT

from paddlevideo_skel.cli import run_command
from paddlevideo_skel.errors import UnavailableError
from paddlevideo_skel.export.exporter import export_model
from paddlevideo_skel.inference.bin_writer import write_bins
from paddlevideo_skel.inference.ray_shards import run_shards


def ray_shards(*flags):
    """The command, started; its output is one text."""
    pytest.importorskip("ray")
    return subprocess.Popen([sys.executable, str(ROOT / "tools/ray_shards.py"), *map(str, flags)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(process):
    """Its exit status and what it printed."""
    with process:
        printed, _ = process.communicate(timeout=300)
    return process.returncode, printed


def processes(*words):
    """``{process: its parent}`` of those with all the words in their command line."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().decode(errors="replace")
            if all(word in line for word in words):
                found[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to find a worker")
def test_a_worker_that_dies_is_replaced_and_the_folder_is_the_same(tmp_path):
    count, data = 400, write_set(tmp_path / "3d.pkl", 400)
    right, output = tmp_path / "right", tmp_path / "bins"
    assert run_command("preprocess-bin", arguments(data, right, "--num_workers=0")) == 0
    process = ray_shards("--shards", 2, "--", "preprocess-bin", *arguments(data, output, "--num_workers=0"))
    shards, deadline = {}, time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline and not (
            shards and len(list(output.glob("bin/[0-9]*"))) > 20):
        time.sleep(0.001)
        shards = shards or processes("exit_with_parent", str(output), "preprocess-bin")
    child, worker = next(iter(shards.items()))
    os.kill(worker, signal.SIGKILL)
    assert len(list(output.glob("bin/[0-9]*"))) < count
    status, printed = finish(process)
    assert status == 0, printed
    assert "lost its worker (WorkerCrashedError); restarted" in printed
    assert printed.count(" done in ") == 2
    assert content(output) == content(right)
    while child in processes("exit_with_parent", str(output)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not processes("exit_with_parent", str(output))


@pytest.mark.slow
def test_a_shard_that_fails_is_told_with_what_it_printed(tmp_path):
    annotations = [{"frame_dir": f"s{i}", "label": 0, "keypoint": sequence(i, joints=20 - 5 * (i == 3))}
                   for i in range(6)]
    data, names = tmp_path / "3d.pkl", [annotation["frame_dir"] for annotation in annotations]
    data.write_bytes(pickle.dumps({"split": {"all": names}, "annotations": annotations}))
    status, printed = finish(ray_shards("--shards", 3, "--retries", 1, "--", "preprocess-bin",
                                        *arguments(data, tmp_path / "bins", "--num_workers=0")))
    assert status == 2
    assert "Shard 1/3 ended with status 2; it printed: error: s3" in printed and "restarted" in printed
    assert printed.rstrip().endswith("(tried 2 times). Fix the cause and run the same command again; finished "
                                     "work is kept")
    assert "error: shard 1/3: ended with status 2; it printed: error: s3" in printed and "Traceback" not in printed


@pytest.mark.slow
def test_inference_is_shared_out_and_reported_together(tmp_path):
    pytest.importorskip("paddle2onnx")
    data = make_data(tmp_path)
    config = config_of("stgcn_plusplus", data)
    export = export_model(config, filled(config), tmp_path / "export", "inference", "minimal", to_onnx=True)
    write_bins(config, tmp_path / "bins", model=export.stem)
    flags = ["infer-bin", "--model", f"{export.stem}.onnx", "--input", tmp_path / "bins", "--batch_size=2",
             "--cpu_threads=1", "--output"]
    assert run_command("infer-bin", list(map(str, [*flags[1:], tmp_path / "right"]))) == 0
    status, printed = finish(ray_shards("--shards", 3, "--cpus", 1, "--", *flags, tmp_path / "answers"))
    assert status == 0, printed
    report = json.loads((tmp_path / "answers/results.json").read_text())
    assert (report["count"], report["computed"], report["ray"]["shards"]) == (11, 11, 3)
    assert [shard["count"] for shard in report["shards"]] == [4, 4, 3]
    assert report["ray"]["fps"] == pytest.approx(11 / report["ray"]["seconds"])
    assert printed.count("pure inference FPS") == 3 and "11 results, 11 of them computed now" in printed
    right = sorted((tmp_path / "right").glob("*_0.bin"))
    assert len(right) == 11
    for path in right:
        found = np.fromfile(tmp_path / "answers" / path.name, "float32")
        np.testing.assert_allclose(found, np.fromfile(path, "float32"), rtol=1e-4, atol=1e-5)
    assert run_command("postprocess-bin", [f"--result_dir={tmp_path / 'answers'}"]) == 0


@pytest.mark.parametrize("cpus, npus, problem", [(1, 1, "--npus: a shard needs 1, but the cluster has 0"),
                                                 (3, 0, "--cpus: a shard needs 3, but the cluster has 2")])
def test_more_than_the_cluster_has(monkeypatch, cpus, npus, problem):
    ended = []
    cluster = SimpleNamespace(cluster_resources=lambda: {"CPU": 2.0}, shutdown=lambda: ended.append(True))
    monkeypatch.setattr("paddlevideo_skel.inference.ray_shards.connect", lambda address: cluster)
    with pytest.raises(UnavailableError, match=problem):
        run_shards(["preprocess-bin"], 1, cpus=cpus, npus=npus)
    assert ended


def test_no_cluster(tmp_path):
    status, printed = finish(ray_shards("--shards=1", "--address=127.0.0.1:1", "--", "preprocess-bin",
                                        *arguments(tmp_path / "no.pkl", tmp_path / "bins")))
    assert status == 2 and "error: --address 127.0.0.1:1: no connection to Ray" in printed


@pytest.mark.parametrize("flags, problem", [
    (["--shards=2"], "found nothing after --"), (["--shards=2", "--", "train"], "found train after --"),
    (["--shards=2", "--", "preprocess-bin", "-c", "c", "-o", "o", "--shard=1/2"], "--shard: is set by ray-shards"),
    (["--shards=2", "--", "infer-bin", "--model", "m"], "--input, --output: are both required"),
    (["--shards=0", "--", "preprocess-bin", "-c", "c", "-o", "o"], "--shards: expected at least 1, got 0"),
    (["--shards=1", "--retries=-1", "--", "preprocess-bin", "-c", "c", "-o", "o"],
     "--retries: expected at least 0, got -1"),
    (["--shards=1", "--cpus=0", "--", "preprocess-bin", "-c", "c", "-o", "o"], "--cpus: expected at least 1, got 0")])
def test_what_the_command_refuses(flags, problem, capsys):
    assert run_command("ray-shards", flags) == 2
    assert problem in capsys.readouterr().err


def test_arguments_of_the_step_are_checked_first(capsys):
    with pytest.raises(SystemExit):
        run_command("ray-shards", ["--shards=2", "--", "preprocess-bin", "--nonsense"])
    assert "-c/--config" in capsys.readouterr().err


def test_without_ray_and_without_paddle():
    code = ("import sys\nsys.modules['paddle'] = sys.modules['ray'] = None\n"
            "from paddlevideo_skel.cli import run_command\n"
            "sys.exit(run_command('ray-shards', ['--shards=1', '--', 'preprocess-bin', '-c', 'c', '-o', 'o']))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "Ray: not installed" in done.stderr and "pip install paddlevideo_skel[ray]" in done.stderr
