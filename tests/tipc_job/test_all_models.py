"""Every model's chains with the real tools, from a copy of the checkout: ``make test-tipc``, a CI job of its own."""
import os
import shutil
import subprocess
import sys

import pytest
from paths import ROOT

pytestmark = pytest.mark.skipif("TIPC_JOB" not in os.environ, reason="make test-tipc")
MODELS = sorted(path.name for path in (ROOT / "test_tipc" / "configs").iterdir())
# Script, params file, mode, and the status that is right on a host without GPU, NPU and atc.
CHAINS = {
    "lite": ("test_train_inference_python.sh", "train_infer_python", "lite_train_lite_infer", 0),
    "whole_infer": ("test_train_inference_python.sh", "train_infer_python", "whole_infer", 0),
    "onednn": ("test_train_inference_python.sh", "train_infer_python_onednn", "whole_infer", 0),
    "amp": ("test_train_inference_python.sh", "train_amp_infer_python", "lite_train_lite_infer", 3),
    "npu": ("test_train_inference_python_npu.sh", "train_infer_python", "lite_train_lite_infer", 3),
    "onnx": ("test_paddle2onnx.sh", "paddle2onnx_infer_python", "paddle2onnx_infer", 0),
    "ascend": ("test_ascend.sh", "ascend_infer_python", "ascend_infer", 0),
    "int8": ("test_ptq_inference_python.sh", "train_ptq_infer_python", "ptq_infer", 0),
    "benchmark": ("benchmark_train.sh", "train_infer_python", "benchmark_train", 0),
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tipc") / "check out"
    shutil.copytree(ROOT / "test_tipc", folder / "test_tipc", ignore=shutil.ignore_patterns("output", "data"))
    for name in ("main.py", "tools", "configs", "paddlevideo_skel"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def bash(checkout, script, *arguments):
    return subprocess.run(["bash", checkout / "test_tipc" / script, *arguments], cwd=checkout.parent,
                          env={**os.environ, "PYTHON": sys.executable}, capture_output=True, text=True)


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("model", MODELS)
def test_chain(checkout, model, chain):
    script, name, mode, status = CHAINS[chain]
    params = f"test_tipc/configs/{model}/{name}.txt"
    if not (ROOT / params).is_file():
        pytest.skip(f"{model} has no {name}.txt")
    if chain in ("onnx", "int8"):
        pytest.importorskip("paddle2onnx")
    prepared = bash(checkout, "prepare.sh", params, mode)
    assert prepared.returncode == 0, prepared.stderr
    done = bash(checkout, script, params, *([] if chain in ("onnx", "ascend", "int8") else [mode]))
    assert done.returncode == status, done.stdout[-5000:] + done.stderr
    if chain == "whole_infer":
        compared = subprocess.run(
            [sys.executable, checkout / "test_tipc" / "compare_results.py",
             f"--gt_file={checkout}/test_tipc/results/{model}/*.txt",
             f"--log_file={checkout}/test_tipc/output/{model}/whole_infer/python_infer_*.log"],
            capture_output=True, text=True)
        assert compared.returncode == 0, compared.stdout + compared.stderr
