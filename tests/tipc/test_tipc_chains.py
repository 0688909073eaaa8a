"""The other chains: ONNX, Ascend, INT8, the training benchmark."""
import json
import os
import shutil

import pytest
from tipc_cases import Checkout, statuses

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


ONNX = ["===paddle2onnx_params===", "model_name:Toy", "python:python3.7", "2onnx: paddle2onnx", "--model_dir:./toy",
        "--model_filename:inference.pdmodel", "--params_filename:inference.pdiparams", "--save_file:./toy/m.onnx",
        "--opset_version:13", "--enable_onnx_checker:True", "inference:tools/predict.py --runtime onnxruntime",
        "--config:toy.yaml", "--model_file:null", "--input_file:./x.npy",
        "export:tools/export_model.py -c toy.yaml --save_name inference", "-p:w.pdparams"]


def test_paddle2onnx(checkout):
    params = checkout.params(ONNX)
    (checkout.root / "w.pdparams").touch()
    assert checkout.bash("test_paddle2onnx.sh", params).returncode == 0
    lines = checkout.results("paddle2onnx_infer", name="results_paddle2onnx.log")
    assert statuses(lines) == ["successfully"] * 3
    assert ("tools/paddle2onnx.py --model_dir=./toy --model_filename=inference.pdmodel "
            "--params_filename=inference.pdiparams --save_file=./toy/m.onnx --opset_version=13") in lines[1]
    assert "--runtime onnxruntime --config=toy.yaml --model_file=./toy/m.onnx --input_file=./x.npy" in lines[2]
    # The model of that run must not answer for one that could not be made.
    assert checkout.bash("test_paddle2onnx.sh", params, FAIL="paddle2onnx").returncode == 1
    assert statuses(checkout.results("paddle2onnx_infer", name="results_paddle2onnx.log"))[1:] == ["failed"]
    without = checkout.params(ONNX[:14])
    assert checkout.bash("test_paddle2onnx.sh", without).returncode == 0


def test_paddle2onnx_without_its_package(tmp_path):
    checkout = Checkout(tmp_path, packages=["onnxruntime"])
    (checkout.root / "w.pdparams").touch()
    assert checkout.bash("test_paddle2onnx.sh", checkout.params(ONNX)).returncode == 0
    lines = checkout.results("paddle2onnx_infer", name="results_paddle2onnx.log")
    assert statuses(lines) == ["successfully", "Skipped", "Skipped"]
    assert lines[2].endswith("paddle2onnx is not installed")


ASCEND = ["===ascend_params===", "model_name:Toy", "python:python3.7", "export:tools/export_model.py -c toy.yaml",
          "-p:w.pdparams", "export_onnx:tools/export_onnx.py", "--batch:1|4", "atc:tools/atc.py",
          "--soc_version:Ascend310P3", "--precision_mode_v2:null", "preprocess:tools/preprocess_bin.py -c toy.yaml",
          "inference:tools/infer_bin.py", "postprocess:tools/postprocess_bin.py"]


def test_ascend(tmp_path):
    checkout = Checkout(tmp_path, packages=["paddle2onnx", "onnxruntime", "ais_bench"])
    (checkout.root / "w.pdparams").touch()
    params = checkout.params(ASCEND)
    assert checkout.bash("test_ascend.sh", params).returncode == 0
    lines = checkout.results("ascend_infer", name="results_ascend.log")
    assert statuses(lines) == ["successfully"] * 8 + ["Skipped"] * 5
    assert all("atc is not on this host" in line for line in lines[8:])
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "atc").write_text("#!/bin/sh\n")
    (programs / "atc").chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    assert checkout.bash("test_ascend.sh", params, PATH=path).returncode == 0
    lines = checkout.results("ascend_infer", name="results_ascend.log")
    assert statuses(lines) == ["successfully"] * 13
    out = "./test_tipc/output/Toy/ascend_infer"
    assert f"tools/atc.py {out}/model/inference_bs1.onnx {out}/model/inference_bs4.onnx -o {out}/om "\
           "--soc_version=Ascend310P3 - " in lines[8]
    assert f"--model {out}/om/inference_bs4.om --runtime om --input {out}/data" in lines[11]
    done = checkout.bash("test_ascend.sh", params, PATH=path, FAIL="postprocess_bin")
    assert done.returncode == 1 and done.stdout.count("\nfailed ") == 4


def test_no_npu_runtime(tmp_path):
    checkout = Checkout(tmp_path)
    (checkout.root / "w.pdparams").touch()
    (tmp_path / "atc").write_text("#!/bin/sh\n")
    (tmp_path / "atc").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    assert checkout.bash("test_ascend.sh", checkout.params(ASCEND), PATH=path).returncode == 0
    lines = checkout.results("ascend_infer", name="results_ascend.log")
    assert statuses(lines) == ["successfully"] * 9 + ["Skipped"] * 4
    assert lines[-1].endswith("neither ais_bench nor pyACL is installed")


PTQ = ["===ptq_params===", "model_name:Toy", "python:python3", "--use_gpu:null", "--config:toy.yaml",
       "--model_dir:./test_tipc/output/Toy/ptq_infer/export", "--output_dir:./test_tipc/output/Toy/ptq_infer/model",
       "--save_name:inference", "--override A.b:1 --override A.c=2", "--samples:8", "--max_drop:1", "##",
       "trainer:ptq_train", "ptq_train:tools/quantize.py", "##", "===infer_params===", "inference:tools/predict.py",
       "--use_gpu:True|False", "--config:toy.yaml", "--batch_size:1|2",
       "--model_file:./test_tipc/output/Toy/ptq_infer/model/inference.pdmodel",
       "--params_file:./test_tipc/output/Toy/ptq_infer/model/inference.pdiparams", "--input_file:./x.npy",
       "--enable_benchmark:True", "export:tools/export_model.py -c toy.yaml --save_name inference", "-p:w.pdparams"]


def test_quantisation(checkout):
    (checkout.root / "w.pdparams").touch()
    params = checkout.params(PTQ)
    done = checkout.bash("test_ptq_inference_python.sh", params)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = checkout.results("ptq_infer")
    assert statuses(lines) == ["successfully"] * 2 + ["Skipped"] * 2 + ["successfully"] * 2
    assert "-p=w.pdparams -o ./test_tipc/output/Toy/ptq_infer/export" in lines[0]
    assert ("tools/quantize.py --config=toy.yaml --model_dir=./test_tipc/output/Toy/ptq_infer/export "
            "--output_dir=./test_tipc/output/Toy/ptq_infer/model --save_name=inference --override A.b=1 "
            "--override A.c=2 --samples=8 --max_drop=1 - ") in lines[1]
    assert "--use_gpu=False --config=toy.yaml --batch_size=2" in lines[5]
    # The model of that run must not answer for one that lost too much, or whose self-check is wrong.
    done = checkout.bash("test_ptq_inference_python.sh", params, FAIL="quantize")
    assert done.returncode == 1 and statuses(checkout.results("ptq_infer")) == ["successfully", "failed"]
    assert not (checkout.root / "test_tipc/output/Toy/ptq_infer/model").exists()
    done = checkout.bash("test_ptq_inference_python.sh", params, FAIL="infer")
    assert done.returncode == 1 and statuses(checkout.results("ptq_infer"))[-2:] == ["failed"] * 2


def test_quantisation_of_an_export_that_is_there(checkout):
    params = checkout.params(PTQ[:24])
    done = checkout.bash("test_ptq_inference_python.sh", params)
    assert done.returncode == 1 and "no such folder" in done.stdout
    (checkout.root / "test_tipc/output/Toy/ptq_infer/export").mkdir(parents=True)
    assert checkout.bash("test_ptq_inference_python.sh", params).returncode == 0


def test_quantisation_without_its_package(tmp_path):
    checkout = Checkout(tmp_path, packages=["paddle2onnx"])
    (checkout.root / "w.pdparams").touch()
    assert checkout.bash("test_ptq_inference_python.sh", checkout.params(PTQ)).returncode == 0
    assert statuses(checkout.results("ptq_infer")) == ["successfully"] + ["Skipped"] * 5


def test_benchmark(checkout):
    params = checkout.params()
    done = checkout.bash("benchmark_train.sh", params, "benchmark_train")
    assert done.returncode == 0, done.stdout
    line = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    # Steps 5, 6 and 7 count: 51, 61 and 71 samples a second.
    assert line["ips"] == 61 and line["convergence_value"] == 2
    assert (line["model_name"], line["batch_size"], line["fp_item"]) == ("Toy_bs8_fp32_DP", 8, "fp32")
    assert (line["device_num"], line["frame_version"], line["speed_unit"]) == ("N1C1", "3.3.1", "instance/sec")
    folder = checkout.root / "test_tipc/output/Toy/benchmark_train"
    assert json.loads((folder / "index/Toy_bs8_fp32_DP_N1C1_speed").read_text()) == line
    lines = (folder / "train_log/results.log").read_text().splitlines()
    assert statuses(lines) == ["successfully", "Skipped"]
    assert lines[1].endswith("Paddle has no mixed precision on a CPU")
    assert "--validate" not in lines[0] and "-o epochs=1" in lines[0] and "--max_iters=7" in lines[0]
    assert "-o DATASET.batch_size=8 -o log_interval=1" in lines[0]
    one = checkout.bash("benchmark_train.sh", params, "benchmark_train", "dynamic_bs2_fp32_DP_N1C8")
    assert one.returncode == 3 and "this paddle finds no GPU" in one.stdout
    profiled = checkout.bash("benchmark_train.sh", params, "benchmark_train", "dynamic_bs2_fp32_DP_N1C1", STEPS="5",
                             PROFILING_TIMER_ONLY="True", BENCHMARK_LOG_DIR=str(checkout.elsewhere / "logs"))
    assert profiled.returncode == 1
    assert "5 steps were logged, expected more than 5" in profiled.stdout
    results = (checkout.elsewhere / "logs/train_log/results.log").read_text().splitlines()
    assert statuses(results) == ["successfully", "successfully", "failed"]
    assert "'--profiler_options=batch_range=[2,4];sorted_key=total'" in results[0]
