"""A checkout of ``test_tipc/`` whose commands are stand-ins, which fail when ``$FAIL`` says so."""
import json
import os
import shutil
import subprocess
import sys

from paths import ROOT

LITE = "lite_train_lite_infer"
SCRIPTS = sorted(path.name for path in (ROOT / "test_tipc").glob("*.sh") if path.name != "common.sh")
MODES = ("lite_train_lite_infer", "lite_train_whole_infer", "whole_train_whole_infer", "whole_infer")

# Stands for main.py and every tool. $FAIL names the step that ends with status 1, or a word of its command.
TOOL = '''import os, sys
from pathlib import Path
words = sys.argv[1:]
name = Path(sys.argv[0]).stem
step = "eval" if "--test" in words else {"main": "train", "predict": "infer"}.get(name, name)
fail = os.environ.get("FAIL")
def value(*flags):
    for i, word in enumerate(words):
        for flag in flags:
            if word.startswith(flag + "="):
                return word[len(flag) + 1:]
            if word == flag:
                return words[i + 1]
print("device " + os.environ.get("CUDA_VISIBLE_DEVICES", "none"))
if fail and (fail == step or fail in words):
    print("error: " + step + ": told to fail")
    sys.exit(1)
if step == "train":
    folder = Path(next(w for w in words if w.startswith("output_dir=")).split("=", 1)[1])
    folder.mkdir(parents=True, exist_ok=True)
    if fail != "weights":
        for ending in ("epoch_00001", "epoch_00002", "best"):
            (folder / ("M_" + ending + ".pdparams")).touch()
    for i in range(int(os.environ.get("STEPS", 8))):
        print("[x] epoch:[ 1/1] train step:%d loss: %.5f lr: 0.1 ips: %.5f instance/sec, eta" % (i, 9 - i, 10 * i + 1))
elif step in ("eval", "export_model", "minimal_export_model"):
    weights = Path(value("-w", "-p"))
    if not weights.is_file():
        print("error: " + str(weights) + ": checkpoint not found")
        sys.exit(2)
    if step != "eval":
        folder = Path(value("-o"))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / (value("--save_name") + ".json")).touch()
elif step == "paddle2onnx":
    Path(value("--save_file")).touch()
elif step == "quantize":
    if not Path(value("--model_dir")).is_dir():
        print("error: " + value("--model_dir") + ": no such folder")
        sys.exit(2)
    folder = Path(value("--output_dir"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / (value("--save_name") + ".onnx")).touch()
elif step == "infer":
    model = Path(value("--model_file"))
    if not any(model.with_suffix(ending).is_file() for ending in (".pdmodel", ".json", ".onnx")):
        print("error: " + str(model) + ": export not found")
        sys.exit(2)
    print("Current video file: x.npy")
    print("\\ttop-1 class: [3]")
    print("\\ttop-1 score: [0.5]")
'''

FACTS = {"gpu": 0, "npu": 0, "paddle": "3.3.1", "paddle_commit": "abc", "tensorrt": False,
         "packages": ["paddle2onnx", "onnxruntime"]}

LINES = """===========================train_params===========================
model_name:Toy
python:python3.7
gpu_list:0
Global.use_gpu:null|null
Global.auto_cast:null
-o epochs:2
-o output_dir:null
-o DATASET.batch_size:null
-o MODEL.backbone.pretrained:null
train_model_name:null
train_infer_video_dir:null
-o DATASET.train.file_path:'data/a b.pkl' -o DATASET.test.file_path='data/a b.pkl' -o DATASET.batch_size=1
##
trainer:norm_train
norm_train:main.py --validate -c toy.yaml --seed 1234
pact_train:null
fpgm_train:null
distill_train:null
amp_train:main.py --amp --amp_level='O2' -c toy.yaml
null:null
##
===========================eval_params===========================
eval:main.py --test -c toy.yaml
-w:./somewhere/M_best.pdparams
##
===========================infer_params===========================
-o:inference/Toy
-p:null
norm_export:tools/export_model.py -c toy.yaml --save_name inference
quant_export:null
fpgm_export:null
distill_export:null
export1:null
export2:null
inference_dir:null
infer_model:./test_tipc/data/Toy/M_best.pdparams
infer_export:tools/export_model.py -c toy.yaml
infer_quant:False
inference:tools/predict.py --config toy.yaml
--use_gpu:True|False
--enable_mkldnn:True|False
--cpu_threads:1|6
--batch_size:1
--use_tensorrt:False|True
--precision:fp32|fp16
--model_file:inference.pdmodel
--input_file:./data/example.pkl
null:null
--enable_benchmark:True
--params_file:inference.pdiparams
===========================train_benchmark_params==========================
batch_size:8
fp_items:fp32|fp16
epoch:1
--profiler_options:batch_range=[2,4];sorted_key=total
flags:FLAGS_toy=1
max_iters:7
===========================infer_benchmark_params==========================
random_infer_input:[{float32,[3, 4, 256, 256]}]
""".splitlines()


class Checkout:
    """A copy of ``test_tipc/`` in a folder with a space in its name, with stand-ins for everything else."""

    def __init__(self, folder, **facts):
        self.root = folder / "check out"
        shutil.copytree(ROOT / "test_tipc", self.root / "test_tipc",
                        ignore=shutil.ignore_patterns("output", "data", "__pycache__"))
        (self.root / "paddlevideo_skel").symlink_to(ROOT / "paddlevideo_skel")
        (self.root / "tools").mkdir()
        for name in ("main", *(f"tools/{tool}" for tool in (
                "export_model", "minimal_export_model", "predict", "paddle2onnx", "export_onnx", "atc",
                "preprocess_bin", "infer_bin", "postprocess_bin", "quantize"))):
            (self.root / f"{name}.py").write_text(TOOL)
        self.elsewhere = folder / "elsewhere"
        self.elsewhere.mkdir()
        # Answers the question about the host's devices, and interprets the stand-ins itself, which starts faster.
        self.python = folder / "python"
        self.python.write_text(f"#!{sys.executable} -SE\n" + (
            "import os, sys\n"
            "text = '' if sys.argv[1] == '-c' else open(sys.argv[1]).read()\n"
            f"if not text: print('a warning\\n' + {json.dumps({**FACTS, **facts})!r})\n"
            f"elif 'paddlevideo_skel' in text: os.execv({sys.executable!r}, [{sys.executable!r}, *sys.argv[1:]])\n"
            "else:\n    del sys.argv[0]\n    exec(compile(text, sys.argv[0], 'exec'))\n"))
        self.python.chmod(0o755)

    def params(self, lines=LINES, **changes):
        """A params file; ``changes`` are ``line_16="…"``."""
        lines = list(lines)
        for key, text in changes.items():
            lines[int(key.removeprefix("line_")) - 1] = text
        path = self.elsewhere / "params.txt"
        path.write_text("\n".join(lines) + "\n")
        return path

    def bash(self, script, *arguments, **environment):
        """Run a script from another folder; returns the finished process."""
        return subprocess.run(["bash", self.root / "test_tipc" / script, *map(str, arguments)], cwd=self.elsewhere,
                              env={**os.environ, "PYTHON": str(self.python), **environment}, capture_output=True,
                              text=True, timeout=900)

    def results(self, mode, model="Toy", name="results_python.log"):
        """The lines of the results, the interpreter's path left out."""
        path = self.root / "test_tipc" / "output" / model / mode / name
        return path.read_text().replace(f"{self.python} ", "").splitlines()


def statuses(lines):
    """``successfully``, ``failed`` or ``Skipped`` of each line of results."""
    return [line.split(" - ")[0].split()[1 if line.startswith("Run") else 0] for line in lines]
