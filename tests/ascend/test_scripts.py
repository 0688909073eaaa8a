"""The scripts of tools/ascend as their users type them, on a small set in the form of Kinetics-Skeleton."""
import os
import pickle
import re
import shutil
import stat
import subprocess
import sys

import numpy as np
import pytest
from paths import ROOT

from paddlevideo_skel.checkpoints.load import load_weights

SCRIPTS = ROOT / "tools" / "ascend"
TASKS = ("train_full_1p", "train_performance_1p", "train_full_8p", "train_performance_8p", "train_eval_1p")
SMALL = [part for override in (
    "MODEL.head.num_classes=3", "DATASET.batch_size=4", "DATASET.test_batch_size=4", "DATASET.num_workers=0",
    "PIPELINE.train.transform.0.RandomChoose.window_size=16", "PIPELINE.valid.transform.0.AutoPadding.window_size=24",
    "PIPELINE.test.transform.0.AutoPadding.window_size=24", "log_interval=1") for part in ("-o", override)]

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


def write_kinetics(folder):
    """Eighteen joints (x, y, score), 24 frames, two persons, three classes: 12 training samples, 9 for validation."""
    folder.mkdir(parents=True)
    for split, count in (("train", 12), ("val", 9)):
        rng = np.random.default_rng(count)
        label = [i % 3 for i in range(count)]
        data = rng.uniform(0.1, 1.0, (count, 3, 24, 18, 2)).astype("float32")
        data[:, 0] += np.array(label, "float32")[:, None, None, None]
        np.save(folder / f"{split}_data.npy", data)
        names = [f"{split}{i}.skeleton" for i in range(count)]
        (folder / f"{split}_label.pkl").write_bytes(pickle.dumps((names, label)))
    return folder


@pytest.fixture(scope="module")
def kinetics(tmp_path_factory):
    return write_kinetics(tmp_path_factory.mktemp("data set") / "Kinetics" / "kinetics-skeleton")


def bash(name, *arguments, cwd, python=sys.executable):
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PADDLE", "FLAGS"))}
    environment = {**clean, "PYTHON": str(python), "OMP_NUM_THREADS": "1"}
    return subprocess.run(["bash", SCRIPTS / f"{name}.sh", *map(str, arguments)], cwd=cwd, env=environment,
                          capture_output=True, text=True, timeout=900)


def number(pattern, text):
    return float(re.findall(pattern + r"([\d.]+)", text)[-1])


@pytest.mark.slow
def test_full_training_and_evaluation_on_one_device(kinetics, tmp_path):
    data = kinetics.parents[1]
    trained = bash("train_full_1p", f"--data_path={data}", "--train_epochs=2", "--lr", "0.02", "--use_gpu_npu=cpu",
                   "--", *SMALL, cwd=tmp_path)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    out = tmp_path / "output" / "ascend" / "train_full_1p"
    log = (out / "train.log").read_text()
    assert "lr: 0.020000" in log
    assert len(re.findall("train step:0 ", log)) == 2
    assert "training is in float32" in trained.stdout
    tops = [float(line) for line in re.findall(r" val loss_avg: [\d.]+ top1_avg: ([\d.]+)", log)]
    assert len(tops) == 2
    assert number("Final Train Accuracy : ", trained.stdout) == pytest.approx(100 * max(tops), abs=0.006)
    assert number("Final Performance images/sec : ", trained.stdout) == number("run FPS: ", log) > 0
    assert number("E2E Training Duration sec : ", trained.stdout) > 0
    assert load_weights(out / "STGCN_kinetics_best.pdparams")["head.fcn.weight"].shape[0] == 3

    tested = bash("train_eval_1p", "--data_path", data, "--use_gpu_npu=cpu", "--", *SMALL, cwd=tmp_path)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert number("Final Eval Accuracy : ", tested.stdout) == pytest.approx(100 * max(tops), abs=0.006)
    assert (tmp_path / "output" / "ascend" / "train_eval_1p" / "results.json").is_file()


@pytest.mark.slow
def test_performance_of_two_processes(kinetics, tmp_path):
    shown = bash("train_performance_8p", f"--data_path={kinetics}", "--nproc=2", "--use_gpu_npu=cpu",
                 f"--test_path_dir={tmp_path / 'here'}", "--", *SMALL, "-o", "DATASET.batch_size=2", cwd=tmp_path)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    log = (tmp_path / "here" / "train.log").read_text()
    assert "2 processes, 4 samples per iteration" in log
    assert len(re.findall("train step:0 ", log)) == 2
    assert " val " not in log
    assert number("Final Performance images/sec : ", shown.stdout) == number("run FPS: ", log)
    assert "2 x cpu" in shown.stdout
    assert "Accuracy" not in shown.stdout


@pytest.mark.parametrize(("name", "arguments"), [("train_full_1p", []), ("train_full_8p", ["--nproc=2"])])
def test_a_training_that_fails_tells(kinetics, tmp_path, name, arguments):
    shown = bash(name, f"--data_path={kinetics}", *arguments, "--use_gpu_npu=cpu", "--", *SMALL, "-o",
                 "OPTIMIZER.name=Adam", cwd=tmp_path)
    assert shown.returncode != 0
    assert "unknown optimizer 'Adam'" in shown.stdout
    assert re.search(rf"error: {name} failed with status {shown.returncode}", shown.stderr)
    assert "Final" not in shown.stdout


BAD = [
    ("train_full_1p", [], "--data_path=DIR is required"),
    ("train_eval_1p", ["--data_path=gone"], "folder not found: gone"),
    ("train_full_1p", ["--data_path=empty"], "train_data.npy is neither in empty"),
    ("train_full_1p", ["--data_path=half"], "file not found: half/val_data.npy"),
    ("train_eval_1p", ["--data_path={data}"], "--weights=FILE is required"),
    ("train_eval_1p", ["--data_path={data}", "--weights=gone.pdparams"], "file not found: gone.pdparams"),
    ("train_eval_1p", ["--data_path={data}", "--lr=1"], "unknown parameter --lr"),
    ("train_full_1p", ["--data_path={data}", "--nproc=2"], "unknown parameter --nproc"),
    ("train_full_1p", ["--data_path={data}", "--dataset=a"], "unknown parameter --dataset"),
    ("train_full_1p", ["--data_path={data}", "--config=gone.yaml"], "file not found: gone.yaml"),
    ("train_full_1p", ["--data_path={data}", "--train_epochs=0"], "--train_epochs"),
    ("train_full_1p", ["--data_path={data}", "--lr"], "--lr needs a value"),
    ("train_full_1p", ["--data_path={data}", "--lr=fast", "--use_gpu_npu=cpu"], "--lr: found 'fast'"),
    ("train_full_1p", ["--data_path={data}", "--use_gpu_npu=tpu"], "found tpu, expected npu, gpu or cpu"),
    ("train_full_1p", ["{data}"], "expected --name=value"),
    ("train_full_1p", ["--data_path={data}", "--device=a"], "--device: found a"),
    ("train_full_1p", ["--data_path={data}", "--use_gpu_npu=cpu", "--device=0"], "this host has no cards"),
    ("train_full_8p", ["--data_path={data}", "--use_gpu_npu=cpu"], "expected 8 devices, found only a CPU"),
]


@pytest.mark.parametrize(("name", "arguments", "words"), BAD)
def test_wrong_parameters_end_with_status_2_and_one_line(kinetics, tmp_path, name, arguments, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "half").mkdir()
    for file in ("train_data.npy", "train_label.pkl"):
        shutil.copy(kinetics / file, tmp_path / "half")
    before = set(tmp_path.rglob("*"))
    shown = bash(name, *(part.format(data=kinetics) for part in arguments), cwd=tmp_path)
    assert shown.returncode == 2, shown.stdout + shown.stderr
    assert words in shown.stderr
    assert shown.stderr.count("\n") == 1
    assert set(tmp_path.rglob("*")) == before


def test_an_npu_that_is_not_there_is_an_error(kinetics, tmp_path):
    paddle = pytest.importorskip("paddle")
    if any("npu" in name for name in paddle.device.get_all_custom_device_type() or ()):
        pytest.skip("there is one")
    shown = bash("train_performance_1p", f"--data_path={kinetics}", "--use_gpu_npu=npu", cwd=tmp_path)
    assert shown.returncode == 2
    assert "finds no NPU" in shown.stderr


@pytest.fixture
def machine(tmp_path):
    """A stand-in for python on a machine with NPUs: tells how many, and writes down how training is called."""
    def make(npus):
        path = tmp_path / "python"
        path.write_text(f"""#!/usr/bin/env bash
case "$*" in
    *"ask.py devices") printf 'gpu 0\\nnpu {npus}\\n' ;;
    *) printf '%s\\n' "$@" > "{tmp_path}/call"
       echo "${{FLAGS_selected_npus:-}}" > "{tmp_path}/selected"
       echo '[11/21 07:42:02] run FPS: 978.645 (samples per second)'
       echo '[11/21 07:42:02] Already save the best model (top1 acc)0.3233' ;;
esac
""")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path
    return make


def called(folder):
    return (folder / "call").read_text().splitlines(), (folder / "selected").read_text().strip()


def test_the_command_on_eight_npus(kinetics, tmp_path, machine):
    shown = bash("train_full_8p", f"--data_path={kinetics}", cwd=tmp_path, python=machine(8))
    assert shown.returncode == 0, shown.stderr
    call, _ = called(tmp_path)
    assert call[:2] == ["-m", "paddle.distributed.launch"]
    assert call[call.index("--devices") + 1] == "0,1,2,3,4,5,6,7"
    main = call[call.index(str(ROOT / "main.py")):]
    assert {"--validate", "--amp", "use_npu=True", "use_gpu=False"} <= set(main)
    assert main[main.index("--amp_level") + 1] == "O2"
    assert f"DATASET.valid.label_path='{kinetics}/val_label.pkl'" in main
    assert not any(part.startswith("epochs=") for part in main)
    assert "Final Performance images/sec : 978.645" in shown.stdout
    assert "Final Train Accuracy : 32.33" in shown.stdout


def test_the_command_on_one_npu_of_several(kinetics, tmp_path, machine):
    shown = bash("train_performance_1p", f"--data_path={kinetics}", "--device=3", cwd=tmp_path, python=machine(8))
    assert shown.returncode == 0, shown.stderr
    call, selected = called(tmp_path)
    assert call[0] == str(ROOT / "main.py")
    assert selected == "3"
    assert "epochs=2" in call
    assert "--validate" not in call


@pytest.mark.parametrize(("arguments", "words"), [
    ([], "expected 8 devices, found 4 NPUs; use them with --nproc=4"),
    (["--device=0,1,2"], "expected 8 different card ids"),
    (["--nproc=2", "--device=1,1"], "expected 2 different card ids"),
    (["--use_gpu_npu=gpu"], "finds no GPU"),
])
def test_too_few_devices_are_an_error(kinetics, tmp_path, machine, arguments, words):
    shown = bash("train_performance_8p", f"--data_path={kinetics}", *arguments, cwd=tmp_path, python=machine(4))
    assert shown.returncode == 2
    assert words in shown.stderr
    assert not (tmp_path / "call").exists()


def test_fewer_devices_when_asked_for(kinetics, tmp_path, machine):
    shown = bash("train_performance_8p", f"--data_path={kinetics}", "--nproc=4", cwd=tmp_path, python=machine(4))
    assert shown.returncode == 0, shown.stderr
    call, _ = called(tmp_path)
    assert call[call.index("--devices") + 1] == "0,1,2,3"


@pytest.mark.parametrize("name", TASKS)
def test_help(name, tmp_path):
    shown = bash(name, "--help", cwd=tmp_path)
    assert shown.returncode == 0
    assert f"tools/ascend/{name}.sh --data_path=DIR" in shown.stdout
    assert subprocess.run(["bash", "-n", SCRIPTS / f"{name}.sh"], check=False).returncode == 0
