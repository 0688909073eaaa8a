"""Seconds from the start of a process to its first answer, ``tools/predict.py`` with ONNX Runtime, and their parts.

    python benchmarks/startup.py [--model EXPORT --input_file SAMPLE] [--repeats 5]

Without a model, CTR-GCN-Lite's minimal export is made first (needs paddle and paddle2onnx), with weights that mean
nothing, and a made-up sample. Medians; the parts are from processes of their own.
"""
import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
# What the command does, step by step. Monotonic clocks of two processes are one clock on Linux, macOS and Windows.
CHILD = """
import contextlib, io, json, sys, time
marks = {"python": time.monotonic()}
sys.path.insert(0, sys.argv[1])
import numpy
marks["numpy"] = time.monotonic()
import onnxruntime
marks["onnxruntime"] = time.monotonic()
from paddlevideo_skel import cli
from paddlevideo_skel.inference.select import open_named
from paddlevideo_skel.inference.artifact import find_export
from paddlevideo_skel.inference.predict import Predictor, predict
from paddlevideo_skel.inference.runtime import RuntimeOptions
marks["this package"] = time.monotonic()
runtime = open_named(find_export(sys.argv[2]), "auto", RuntimeOptions())
marks["model and self-check"] = time.monotonic()
with contextlib.redirect_stdout(io.StringIO()):
    predict(Predictor(runtime), sys.argv[3])
marks["answer"] = time.monotonic()
assert runtime.kind == "onnxruntime" and "paddle" not in sys.modules
print(json.dumps(marks))
"""


def run(*command):
    """Seconds of a command, of which the processors' own, when it began, and what it printed."""
    start, busy = time.monotonic(), processor_seconds()
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=False,
                          cwd=tempfile.gettempdir())
    if done.returncode:
        raise SystemExit(f"{command[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
    return time.monotonic() - start, processor_seconds() - busy, start, done.stdout


def processor_seconds():
    """What child processes have used up to now, all cores added up."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def parts(model, sample):
    """Seconds of each step of one process."""
    *_, start, printed = run("-c", CHILD, ROOT, model, sample)
    marks = json.loads(printed)
    return dict(zip(marks, np.diff([start, *marks.values()]).tolist(), strict=True))


def rows(model=None, sample=None, repeats=5):
    """A list of one dict: seconds of the whole command, of which the processors' own, and of its parts.

    Args:
        model: an export with an ONNX model; None: CTR-GCN-Lite's is made. sample: a file that it can answer.
    """
    if model is None:
        with tempfile.TemporaryDirectory() as folder:
            return rows(*make_export(Path(folder)), repeats)
    command = (ROOT / "tools" / "predict.py", "--model_file", model, "-i", sample)
    run(*command)  # afterwards files are read from memory
    whole, steps = [], []
    for _ in range(repeats):
        whole.append(run(*command)[:2])
        steps.append(parts(model, sample))
    seconds, processors = np.transpose(whole)
    return [{"model": Path(model).name, "seconds": float(np.median(seconds)), "slowest": float(seconds.max()),
             "processor_seconds": float(np.median(processors)),
             "parts": {name: float(np.median([step[name] for step in steps])) for name in steps[0]}}]


def make_export(folder):
    """CTR-GCN-Lite's minimal export with an ONNX model, and a sample; made in a process of its own."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); from exports import export; export(*sys.argv[2:], 'minimal')"
    run("-c", code, Path(__file__).parent, "CTR-GCN-Lite", folder)
    sample = np.random.default_rng(0).normal(0, 0.4, (3, 100, 25, 2)).astype("float32")
    np.save(folder / "sample.npy", sample)
    return folder / "minimal", folder / "sample.npy"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="an export with an ONNX model")
    parser.add_argument("--input_file", help="a sample that it can answer")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    if bool(args.model) != bool(args.input_file):
        parser.error("--model and --input_file belong together")
    given = [path and Path(path).resolve() for path in (args.model, args.input_file)]
    row, = rows(*given, args.repeats)
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"{row['model']}, {threads} threads, median of {args.repeats}: {row['seconds']:.2f} s from the start of "
          f"tools/predict.py to its end, at most {row['slowest']:.2f} s; processors {row['processor_seconds']:.2f} s")
    for name, value in row["parts"].items():
        print(f"  {name:22} {value:.3f} s")


if __name__ == "__main__":
    main()
