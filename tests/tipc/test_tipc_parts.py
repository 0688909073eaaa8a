"""The chain tests: params files, rows, statuses. What is real: at the end (slow), and in tipc_job/."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import compare_results
import numpy as np
import pytest
from tipc import host, train_infer
from tipc.params import Params
from tipc_cases import LINES, LITE, MODES, ROOT, SCRIPTS, Checkout, statuses

from paddlevideo_skel.errors import UnavailableError

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
CHAIN = "test_train_inference_python.sh"
RUN = "norm_train_gpus_0_autocast_null_nodes_1"


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def test_a_lite_chain_runs_the_commands_of_the_params_file(checkout):
    done = checkout.bash(CHAIN, "params.txt" if checkout.params() else "", LITE)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = checkout.results(LITE)
    out = f"./test_tipc/output/Toy/{LITE}"
    data = "-o 'DATASET.train.file_path=data/a b.pkl' -o 'DATASET.test.file_path=data/a b.pkl' -o DATASET.batch_size=1"
    assert lines[:3] == [
        f"Run successfully with command - Toy - main.py --validate -c toy.yaml --seed 1234 -o output_dir={out}/{RUN} "
        f"-o epochs=2 {data} --max_iters=30 - {out}/train.log",
        f"Run successfully with command - Toy - main.py --test -c toy.yaml -w={out}/{RUN}/M_best.pdparams {data} - "
        f"{out}/eval.log",
        f"Run successfully with command - Toy - tools/export_model.py -c toy.yaml --save_name inference "
        f"-p={out}/{RUN}/M_best.pdparams -o={out}/{RUN} - {out}/export.log"]
    # GPU: fp16 only with TensorRT, as PaddleVideo has it. CPU: oneDNN x threads x precision.
    gpu, cpu = lines[3:6], lines[6:]
    assert statuses(gpu) == ["Skipped"] * 3
    assert all(line.endswith(" - this paddle finds no GPU") for line in gpu)
    assert statuses(cpu) == ["successfully", "Skipped"] * 4
    assert all(line.endswith("paddle has no fp16 on a CPU") for line in cpu[1::2])
    assert cpu[6] == (
        f"Run successfully with command - Toy - tools/predict.py --config toy.yaml --use_gpu=False "
        f"--enable_mkldnn=False --cpu_threads=6 --batch_size=1 --precision=fp32 "
        f"--model_file={out}/{RUN}/inference.pdmodel --input_file=./data/example.pkl --enable_benchmark=True "
        f"--params_file={out}/{RUN}/inference.pdiparams - "
        f"{out}/python_infer_cpu_usemkldnn_False_threads_6_precision_fp32_batchsize_1.log")
    logs = [checkout.root / line.rsplit(" - ", 1)[1] for line in lines if line.startswith("Run")]
    assert len(set(logs)) == 7
    assert all(log.read_text().startswith("device ") for log in logs)
    table = done.stdout.split("\nstatus ")[1]
    assert table.count("\npassed ") == 7 and table.count("\nskipped ") == 7
    assert "Toy: 7 passed, 0 failed, 7 skipped" in table


BREAKS = {
    "train": ["train"], "weights": ["eval", "export"], "eval": ["eval"],
    "export_model": ["export", *(f"python_infer_cpu_usemkldnn_{m}_threads_{t}_precision_fp32_batchsize_1"
                                 for m in ("True", "False") for t in (1, 6))],
    "--cpu_threads=6": [f"python_infer_cpu_usemkldnn_{m}_threads_6_precision_fp32_batchsize_1"
                        for m in ("True", "False")],
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_step_that_fails_is_named_and_the_status_tells(checkout, what):
    done = checkout.bash(CHAIN, checkout.params(), LITE, FAIL=what)
    assert done.returncode == 1
    failed = [line for line in checkout.results(LITE) if line.startswith("Run failed with command - Toy - ")]
    names = [Path(line.rsplit(" - ", 1)[1]).stem for line in failed]
    after = {"train": len(names) - 1, "weights": len(names) - 2}.get(what, 0)  # what needs the weights fails too
    assert names[:len(names) - after] == BREAKS[what]
    assert all(line in done.stdout.replace(f"{checkout.python} ", "") for line in failed)
    table = done.stdout.split("\nstatus ")[1]
    assert table.count("\nfailed ") == len(failed)
    assert ("told to fail" if what != "weights" else "checkpoint not found") in table


def test_weights_of_an_older_run_do_not_stand_in(checkout):
    params = checkout.params()
    assert checkout.bash(CHAIN, params, LITE).returncode == 0
    assert checkout.bash(CHAIN, params, LITE, FAIL="train").returncode == 1
    assert "successfully" not in statuses(checkout.results(LITE))


def test_modes_differ_as_in_paddlevideo(checkout):
    params = checkout.params()
    (checkout.root / "test_tipc/data/Toy").mkdir(parents=True)
    (checkout.root / "test_tipc/data/Toy/M_best.pdparams").touch()
    first = {}
    for mode in MODES[1:]:
        assert checkout.bash(CHAIN, params, mode, *["2"] * (mode == "whole_infer")).returncode == 0
        first[mode] = checkout.results(mode)
    train, evaluation = first["lite_train_whole_infer"][:2]
    assert "-o epochs=2" in train and "data/a b" in train and "data/a b" not in evaluation
    train, evaluation = first["whole_train_whole_infer"][:2]
    assert not any(text in train for text in ("epochs", "data/a b", "max_iters"))
    assert "data/a b" not in evaluation
    # PaddleVideo's line leaves out the name that its inference then looks for.
    assert first["whole_infer"][0] == (
        "Run successfully with command - Toy - tools/export_model.py -c toy.yaml --save_name inference "
        "-p=./test_tipc/data/Toy/M_best.pdparams -o=test_tipc/data/Toy - ./test_tipc/output/Toy/whole_infer/export.log")
    assert "device 2" in (checkout.root / "test_tipc/output/Toy/whole_infer/export.log").read_text()
    assert statuses(first["whole_infer"]).count("successfully") == 5


def test_a_host_with_a_gpu_runs_its_rows(tmp_path):
    checkout = Checkout(tmp_path, gpu=1)
    done = checkout.bash(CHAIN, checkout.params(line_5="--use_gpu:True"), LITE)
    assert done.returncode == 0
    lines = checkout.results(LITE)
    assert "--use_gpu=True" in lines[0] and "--use_gpu=True" in lines[1]
    assert statuses(lines[3:6]) == ["successfully", "Skipped", "Skipped"]
    assert lines[4].endswith(" - this paddle was built without TensorRT")
    assert "--use_gpu=True --use_tensorrt=False --precision=fp32" in lines[3]


@pytest.mark.parametrize("devices, use, reason", [
    ("0,1", "null", "found 1 GPUs, expected 2"), ("0;1", "null", "several machines")])
def test_devices_that_are_not_here_are_skipped_with_all_that_needs_them(tmp_path, devices, use, reason):
    checkout = Checkout(tmp_path, gpu=1)
    done = checkout.bash(CHAIN, checkout.params(line_4=f"gpu_list:{devices}", line_5=f"--use_gpu:{use}"), LITE)
    assert done.returncode == 3
    lines = checkout.results(LITE)
    assert set(statuses(lines)) == {"Skipped"}
    assert reason in lines[0] and all("needs the training that was skipped" in line for line in lines[1:])


def test_npu_rows(tmp_path):
    checkout = Checkout(tmp_path, npu=1, gpu=1)
    params = checkout.params()
    assert checkout.bash("test_train_inference_python_npu.sh", params, LITE).returncode == 0
    assert params.read_text().splitlines() == LINES
    lines = checkout.results(f"{LITE}_npu")
    assert "--use_npu=True" in lines[0] and "--use_npu=True" in lines[1]
    assert "use_gpu=True" not in "".join(lines)
    npu = [line for line in lines if "predict.py" in line and "--use_npu=True" in line]
    assert statuses(npu) == ["successfully", "Skipped"]
    assert npu[1].endswith("fp16 is not supported on an NPU through paddle")
    cpu = [line for line in lines if "--use_npu=False" in line]
    assert len(cpu) == 8 and all("--use_gpu=False" in line for line in cpu)


def test_without_npu_nothing_is_passed(checkout):
    done = checkout.bash("test_train_inference_python_npu.sh", checkout.params(), LITE)
    assert done.returncode == 3
    assert set(statuses(checkout.results(f"{LITE}_npu"))) == {"Skipped"}
    assert "this paddle finds no NPU" in checkout.results(f"{LITE}_npu")[0]


def test_oneDNN_only_where_it_is(checkout, monkeypatch):
    params = Params(checkout.params(), train_infer.HEADERS)
    assert "--enable_mkldnn:True|False" in train_infer.for_npu(params)
    monkeypatch.setattr(train_infer, "is_x86", lambda: False)
    assert "--enable_mkldnn:False" in train_infer.for_npu(params).splitlines()


@pytest.mark.parametrize("facts, status", [({}, 3), ({"gpu": 1}, 0)])
def test_mixed_precision(tmp_path, facts, status):
    checkout = Checkout(tmp_path, **facts)
    assert checkout.bash(CHAIN, checkout.params(line_15="trainer:amp_train"), LITE).returncode == status
    lines = checkout.results(LITE)
    assert "--amp --amp_level=O2" in lines[0]
    if status:
        assert set(statuses(lines)) == {"Skipped"}
        assert lines[0].endswith("Paddle has no mixed precision on a CPU")
    else:
        assert statuses(lines)[:3] == ["successfully"] * 3


# ---- params files

def test_params_lines(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text("=====toy_params=====\n\nmodel_name:A-1\npython:python3\n-o a.b:'x y' -o c=d:e\n--k:null\n"
                    "null:null\ns:1|2\n===more===\n")
    params = Params(path, {1: "toy_params"})
    assert (params.model, params.python) == ("A-1", "python3")
    assert params.arguments(4) == ["-o", "a.b=x y", "-o", "c=d:e"]
    assert params.arguments(4, "p q") == ["-o", "a.b=p q"]
    assert params.arguments(5) == params.arguments(6) == [] and params.arguments(5, "1") == ["--k=1"]
    assert params.options(7) == ["1", "2"] and params.command(5) is None
    assert params.section("more") == 8 and params.section("less") is None


@pytest.mark.parametrize("changes, message", [
    ({"line_16": "norm_train:main.py 'x"}, "params.txt:16: \"main.py 'x\" cannot be read as a command"),
    ({"line_22": ""}, "params.txt:23: found 'eval:main.py --test -c toy.yaml', expected ===eval_params==="),
    ({"line_2": "model_name:../x"}, "params.txt:2: found '../x'"),
    ({"line_5": "Global.use_gpu"}, "params.txt:5: found 'Global.use_gpu', expected key:value"),
    ({"line_8": "null:null"}, "params.txt:8: expected a key for the output folder"),
    ({"line_15": "trainer:nrom_train"}, "params.txt:15: expected a command of 'nrom_train' in lines 16 to 21"),
    ({"line_41": "--use_gpu:Yes"}, "params.txt:41: found 'Yes', expected True or False"),
])
def test_a_wrong_params_file_is_refused_in_one_line(checkout, changes, message):
    done = checkout.bash(CHAIN, checkout.params(**changes), LITE)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and message in done.stderr


def test_wrong_arguments(checkout):
    for script in set(SCRIPTS) - {"record_results.sh"}:
        done = checkout.bash(script)
        assert done.returncode == 2 and done.stderr.startswith(f"usage: bash test_tipc/{script} <params.txt>")
    done = checkout.bash(CHAIN, checkout.params(), "lite_train")
    assert done.returncode == 2 and "Did you mean 'lite_train_lite_infer'" in done.stderr
    done = checkout.bash(CHAIN, "test_tipc/configs/STGCN/train_infer.txt", LITE)
    assert done.returncode == 2 and "Did you mean 'train_infer_python.txt'" in done.stderr
    done = checkout.bash("record_results.sh", "STGNC")
    assert done.returncode == 2 and "Did you mean 'STGCN'" in done.stderr
    done = checkout.bash("benchmark_train.sh", checkout.params(), "benchmark_train", "dynamic_bs8")
    assert done.returncode == 2 and "expected for example dynamic_bs8_fp32_DP_N1C1" in done.stderr
    done = checkout.bash("benchmark_train.sh", checkout.params(LINES[:51]), "benchmark_train")
    assert done.returncode == 2 and "no section train_benchmark_params" in done.stderr


def test_interpreters(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("PYTHON", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    for status, expected in ((0, "python3.7"), (127, sys.executable)):
        (tmp_path / "python3.7").write_text(f"#!/bin/sh\nexit {status}\n")
        (tmp_path / "python3.7").chmod(0o755)
        assert host.interpreter("python3.7") == expected
        said = capsys.readouterr().out
        assert "python3.7 is not installed" in said if status else said == ""
    monkeypatch.setenv("PYTHON", "/mine")
    assert host.interpreter("python3.7") == "/mine"
    (tmp_path / "bare").write_text("#!/bin/sh\necho 'ModuleNotFoundError: paddle' >&2\nexit 1\n")
    (tmp_path / "bare").chmod(0o755)
    with pytest.raises(UnavailableError, match=r"cannot import the required packages \(ModuleNotFoundError: paddle\)"):
        host.Host(str(tmp_path / "bare"))
    with pytest.raises(UnavailableError, match="cannot be started"):
        host.Host(str(tmp_path / "nothing"))


def test_this_host_is_asked():
    facts = host.Host(sys.executable).facts
    import paddle

    assert facts["paddle"] == paddle.__version__ and facts["gpu"] == 0 and facts["npu"] == 0


# ---- with the real tools

@pytest.fixture
def real(checkout):
    """``(checkout with the real export and prediction, weights, params file of whole_infer)``; a small model."""
    from deploy_cases import SMALL, filled, small_config, write_npy

    from paddlevideo_skel.checkpoints.fit import save_state

    for name in ("export_model", "predict"):
        shutil.copy(ROOT / "tools" / f"{name}.py", checkout.root / "tools")
    weights = checkout.root / "w" / "small.pdparams"
    weights.parent.mkdir()
    save_state(filled(small_config("stgcn_plusplus")).state_dict(), weights)
    write_npy(checkout.root / "x.npy")
    config, overrides = SMALL["stgcn_plusplus"]
    export = f"tools/export_model.py -c {ROOT}/configs/recognition/{config}" + "".join(
        f" --override {o}" for o in overrides)

    def params(**changes):
        return checkout.params(**{
            "line_37": "infer_model:w/small.pdparams", "line_38": f"infer_export:{export}",
            "line_40": "inference:tools/predict.py", "line_41": "--use_gpu:False", "line_42": "--enable_mkldnn:False",
            "line_43": "--cpu_threads:1", "line_46": "--precision:fp32", "line_48": "--input_file:./x.npy",
            "line_50": "--enable_benchmark:False", **changes})
    return checkout, weights, params


def test_real_rows(real):
    checkout, weights, params = real
    done = checkout.bash(CHAIN, params(), "whole_infer")
    assert done.returncode == 0, done.stdout
    log = checkout.root / "test_tipc/output/Toy/whole_infer" / (
        "python_infer_cpu_usemkldnn_False_threads_1_precision_fp32_batchsize_1.log")
    assert "self-check passed" in log.read_text() and compare_results.read_answers(log)

    check = weights.parent / "inference.selfcheck.npz"
    content = dict(np.load(check))
    content["logits"] = content["logits"] + 1
    np.savez(check, **content)
    done = checkout.bash(CHAIN, params(line_37="infer_model:w", line_38="infer_export:null"), "whole_infer")
    assert done.returncode == 1
    assert "0 passed, 1 failed, 0 skipped" in done.stdout and "fails its self-check" in done.stdout


@pytest.mark.slow
def test_real_rows_without_weights(real):
    checkout, weights, params = real
    weights.unlink()
    done = checkout.bash(CHAIN, params(), "whole_infer")
    assert done.returncode == 1 and done.stdout.count("\nfailed ") == 2
    assert "checkpoint not found" in done.stdout and "export not found" in done.stdout


@pytest.mark.slow
def test_the_lite_chain_of_st_gcn_plus_plus(tmp_path):
    """The two commands of its users, from a copy of the checkout."""
    checkout = real_checkout(tmp_path)
    params = "test_tipc/configs/STGCN_PlusPlus/train_infer_python.txt"
    for script in ("prepare.sh", CHAIN):
        done = subprocess.run(["bash", checkout / "test_tipc" / script, params, LITE], cwd=tmp_path,
                              env={**os.environ, "PYTHON": sys.executable}, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    lines = (checkout / f"test_tipc/output/STGCN_PlusPlus/{LITE}/results_python.log").read_text().splitlines()
    assert statuses(lines).count("successfully") == 11 and "failed" not in statuses(lines)


def real_checkout(folder):
    checkout = folder / "check out"
    shutil.copytree(ROOT / "test_tipc", checkout / "test_tipc", ignore=shutil.ignore_patterns("output", "data"))
    for name in ("main.py", "tools", "configs", "paddlevideo_skel"):
        (checkout / name).symlink_to(ROOT / name)
    return checkout
