"""Prediction walks the path of training and testing, prints what users know, and names a sample that does not fit."""
import json
import re
import subprocess
import sys
import types

import numpy as np
import pytest
from deploy_cases import CLASSES, CONFIGS, SMALL, dynamic, filled, small_config, write_npy, write_set
from paths import ROOT

from paddlevideo_skel.cli import run_command
from paddlevideo_skel.data.pipeline import Pipeline
from paddlevideo_skel.data.readers import read_sample
from paddlevideo_skel.inference.benchmark import StepTimes, measure_latency
from paddlevideo_skel.inference.runtime import open_runtime


@pytest.fixture
def folder(ctrgcn_export):
    return ctrgcn_export


def call(folder, source, *flags):
    return run_command("predict", [f"--model_file={folder.stem}.pdmodel", f"--params_file={folder.stem}.pdiparams",
                                   f"--input_file={source}", *map(str, flags)])


def probabilities(path):
    """By hand: reader, the config's own test pipeline, dynamic graph, softmax in float64."""
    config = small_config("ctrgcn")
    pipeline = Pipeline(config["PIPELINE"]["test"], "test")
    arrays = np.stack([pipeline(sample, np.random.default_rng(0)) for sample in read_sample(path)])
    logits = dynamic(filled(config), arrays).astype("float64")
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("runtime", ["paddle", "onnxruntime"])
def test_one_file_prints_the_known_lines(folder, tmp_path, capsys, runtime):
    path = write_npy(tmp_path / "a.npy")
    assert call(folder, path, "--runtime", runtime, "--use_gpu=False", "--use_tensorrt=False") == 0
    right = probabilities(path)[0]
    lines = capsys.readouterr().out.splitlines()
    start = lines.index(f"Current video file: {path}")
    assert lines[start + 1] == f"\ttop-1 class: [{right.argmax()}]"
    score = re.fullmatch(r"\ttop-1 score: \[([\d.e+-]+)\]", lines[start + 2])
    assert float(score[1]) == pytest.approx(right.max(), rel=1e-3)
    assert lines[start + 3] == f"\ttop-1 name: {small_config('ctrgcn')['class_names'][right.argmax()]}"
    assert f"Runtime: {runtime}" in lines[0]


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_every_sample_of_every_file_in_a_folder(folder, tmp_path, capsys, batch):
    source = tmp_path / "in"
    source.mkdir()
    write_npy(source / "a.npy", seed=8)
    write_set(source / "b.pkl", 4)
    (source / "notes.txt").touch()
    out = tmp_path / "out" / "r.json"
    assert call(folder, source, "-b", batch, "--json", out, "--top_k=3", "--time_test_file=True") == 0
    printed = capsys.readouterr().out
    assert printed.count("Current video file: ") == 5 and printed.count("\tsample: s0") == 4
    assert "Average time per file" in printed
    report = json.loads(out.read_text())
    right = np.concatenate([probabilities(source / "a.npy"), probabilities(source / "b.pkl")])
    assert [entry["sample"] for entry in report["samples"]] == ["a.npy", "s00", "s01", "s02", "s03"]
    for entry, row in zip(report["samples"], right, strict=True):
        assert [best["class"] for best in entry["top_k"]] == np.argsort(-row)[:3].tolist()
        assert [best["score"] for best in entry["top_k"]] == pytest.approx(np.sort(row)[::-1][:3].tolist(), rel=1e-2)
    assert report["runtime"]["selfcheck_error"] < 1e-5 and report["model"] == "CTRGCNLite_utkinect"


@pytest.mark.parametrize("shape, problem", [({"joints": 25}, "25 joints"), ({"channels": 2}, "2 coordinates"),
                                            ({"persons": 2}, "2 person")])
def test_a_sample_that_does_not_fit_is_named(folder, tmp_path, capsys, shape, problem):
    path = write_set(tmp_path / "b.pkl", 2, **shape)
    assert call(folder, path) == 2
    error = capsys.readouterr().err
    assert str(path) in error and "s00" in error
    assert problem in error or "joints" in error or "coordinates" in error


def test_what_cannot_be_read_or_written_is_told(folder, tmp_path, capsys):
    path = write_npy(tmp_path / "a.npy")
    (tmp_path / "empty").mkdir()
    for flags, problem in (((tmp_path / "nothing.npy",), "file or folder not found"), ((tmp_path / "empty",), "has no"),
                           ((path, "--json", path / "r.json"), "cannot be"), ((path, "--top_k", CLASSES + 1), "top_k"),
                           ((path, "-b", 0), "batch_size"), ((path, "--precision=fp8"), "precision")):
        assert call(folder, *flags) == 2
        assert problem in capsys.readouterr().err
    with pytest.raises(SystemExit):
        call(folder, path, "--use_gpu=maybe")


def test_a_config_that_differs_is_warned_of(folder, tmp_path, capsys):
    path = write_npy(tmp_path / "a.npy")
    config, overrides = SMALL["ctrgcn"]
    given = ["-c", CONFIGS / config, *(f"-o{text}" for text in overrides)]
    assert call(folder, path, *given) == 0
    first = capsys.readouterr().out
    assert "differs from" not in first
    assert call(folder, path, *given[:-1]) == 0  # the window is the config's 32 then, not 16
    second = capsys.readouterr().out
    assert "differs from the preprocessing" in second
    assert first.splitlines()[-3:] == second.splitlines()[-3:]


def test_onnx_runtime_needs_no_paddle(folder, tmp_path):
    path = write_npy(tmp_path / "a.npy")
    code = (f"import sys\nfrom paddlevideo_skel.cli import run_command\n"
            f"status = run_command('predict', ['--model_file', {str(folder.stem.parent)!r}, '-i', {str(path)!r},"
            f" '--runtime', 'onnxruntime', '--enable_benchmark'])\n"
            f"print('loaded', [name for name in sys.modules if name.split('.')[0] == 'paddle'])\nsys.exit(status)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "loaded []" in done.stdout and "Current video file" in done.stdout


def test_the_benchmarks_fields(folder, tmp_path, capsys):
    path, out = write_npy(tmp_path / "a.npy"), tmp_path / "r.json"
    assert call(folder, path, "--enable_benchmark=True", "-b2", "--cpu_threads=1", "--json", out) == 0
    printed = capsys.readouterr().out
    fields = json.loads(out.read_text())["benchmark"]
    for field in ("runtime_device", "ir_optim", "enable_mkldnn", "enable_tensorrt", "cpu_math_library_num_threads",
                  "model_name", "precision", "batch_size", "input_shape", "data_num", "cpu_rss(MB)", "gpu_rss(MB)",
                  "preprocess_time(ms)", "inference_time(ms)", "postprocess_time(ms)"):
        assert field in fields and f"{field}: " in printed
    assert fields["batch_size"] == 2 and fields["data_num"] == 20 and fields["cpu_math_library_num_threads"] == 1
    assert fields["inference_time(ms)"] > fields["postprocess_time(ms)"] > 0
    assert 20 < fields["cpu_rss(MB)"] < 20000


def test_autolog_is_used_where_it_is_installed(folder, tmp_path, monkeypatch):
    calls = []

    class AutoLogger:
        def __init__(self, **given):
            calls.append(given)
            self.times = StepTimes()

        def report(self):
            calls.append(len(self.times.rounds))

    module = types.ModuleType("auto_log")
    module.AutoLogger, module.__spec__ = AutoLogger, types.SimpleNamespace(name="auto_log")
    monkeypatch.setitem(sys.modules, "auto_log", module)
    assert call(folder, write_npy(tmp_path / "a.npy"), "--enable_benchmark", "--runtime=paddle") == 0
    assert calls[0]["model_precision"] == "fp32" and calls[0]["inference_config"].ir_optim()
    assert calls[1] == 13


def test_latency_is_of_this_model(folder):
    runtime = open_runtime(folder, "onnxruntime")
    assert 0.05 < measure_latency(runtime, runtime.selfcheck.array[:1], repeats=3) < 5000


def test_the_script(folder, tmp_path):
    path = write_npy(tmp_path / "a.npy")
    done = subprocess.run([sys.executable, ROOT / "tools/predict.py", "--input_file", path, "--model_file",
                           f"{folder.stem}.pdmodel", "--runtime=onnxruntime"], cwd=tmp_path, capture_output=True,
                          text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert f"Current video file: {path}\n\ttop-1 class: [" in done.stdout
