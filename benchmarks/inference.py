"""Inference on a CPU: PaddleVideo's graph and ours, in Paddle (oneDNN on and off) and in ONNX Runtime, in turns.

    python benchmarks/inference.py [CTR-GCN-Lite …] [--batches 1 8] [--exports paddlevideo ordinary minimal]
        [--seconds 10] [--threads 2] [--json]

Every way of a model is a process of its own, as one runtime's waiting threads disturb another's; they answer one after
the other, round by round, so that what else the machine does meets all of them. A row has the median, and a ratio is
the median of the rounds' ratios: to PaddleVideo's graph exported in the ordinary way, in Paddle without oneDNN, and in
ONNX Runtime also to the plain conversion, paddle2onnx's of that export. Wrong answers are shown, not hidden: an
ordinary CTR-GCN is wrong with oneDNN (docs/export.md). "share" is the part that a row reaches of a large matrix
product's speed, measured first, if its products are counted as the plain conversion has them.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
from exports import MODELS, ROOT, export_all

from paddlevideo_skel import devices
from paddlevideo_skel.cli import load_paddle

EXPORTS = ("paddlevideo", "ordinary", "minimal")
WAYS = (("paddlevideo", "paddle"), ("paddlevideo", "paddle, oneDNN"), ("ordinary", "paddle"), ("minimal", "paddle"),
        ("minimal", "paddle, oneDNN"), ("paddlevideo", "onnxruntime"), ("ordinary", "onnxruntime"),
        ("minimal", "onnxruntime"))
FIRST, PLAIN = WAYS[0], ("paddlevideo", "onnxruntime")
SECONDS, MIN_ROUNDS, TIMES, LONG, PAUSE = 12.0, 3, 5, 0.5, 0.25
FILES = {"paddle": (".json", ".pdiparams"), "onnxruntime": (".onnx",)}
COLUMNS = {"model": "", "batch": "", "export": "", "runtime": "", "ms": ".1f", "ratio": ".2f", "to_plain": ".2f",
           "agreement": ".0e", "MB": ".2f", "share": ".0%"}


def gemm_peak(size=2048, repeats=5):
    """GFLOP/s of paddle's float32 product of two square matrices, the best of a few."""
    import paddle

    a = paddle.randn([size, size])
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        paddle.matmul(a, a).numpy()
        times.append(time.perf_counter() - start)
    return 2 * size ** 3 / min(times) / 1e9


class Worker:
    """A process that answers with one export in one runtime.

    Args:
        way: of ``WAYS``. stem: the export's.
    """

    def __init__(self, way, stem, threads):
        kind, runtime = self.way = way
        # PaddleVideo's users have the environment as it is.
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads),
                       **({"PADDLEVIDEO_SKEL_CPU_ENV": "0"} if kind == "paddlevideo" else {})}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker", str(stem), runtime, str(threads)], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def ask(self, word):
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        while line := self.process.stdout.readline():
            if line.startswith("answer "):  # paddle prints on its own account too
                return float(line.split()[1])
        raise RuntimeError(f"{', '.join(self.way)}: the process has ended with status {self.process.wait()}")

    def seconds(self):
        """Of one answer, the median of a few; then a pause: OpenMP threads turn for 0.2 s while they wait."""
        taken = []
        while len(taken) < TIMES and sum(taken) < LONG:
            taken.append(self.ask("run"))
        time.sleep(PAUSE)
        return float(np.median(taken))

    def stop(self):
        self.process.kill()
        self.process.communicate()


def work(stem, runtime, threads):
    """A worker's process: ``batch N`` makes samples ready and answers with the relative error, ``run`` with seconds."""
    from paddlevideo_skel.inference.artifact import ExportFolder, relative_error

    opened = open_unchecked(ExportFolder(stem), runtime, threads)
    for line in sys.stdin:
        word, _, number = line.partition(" ")
        if word == "batch":
            array, right = opened.selfcheck.repeated(int(number))
            opened.compute(array)
            told = relative_error(opened.compute(array), right)
        else:
            start = time.perf_counter()
            opened.compute(array)
            told = time.perf_counter() - start
        print(f"answer {told!r}", flush=True)


def open_unchecked(folder, runtime, threads):
    """A runtime whose wrong answers are measured too."""
    from paddlevideo_skel.inference.runtime import RuntimeOptions

    if runtime.startswith("paddle"):
        from paddlevideo_skel.inference.paddle_runtime import PaddleRuntime as cls

        options = RuntimeOptions(use_gpu=False, use_npu=False, cpu_threads=threads, enable_mkldnn="oneDNN" in runtime)
    else:
        from paddlevideo_skel.inference.onnx_runtime import OnnxRuntime as cls

        options = RuntimeOptions(use_gpu=False, use_npu=False, cpu_threads=threads)
    return type("Unchecked", (cls,), {"check": lambda self, batch: None})(folder, options)


def measure(workers, batch, seconds):
    """Seconds of each answer ``(rounds, ways)``, and each way's relative error, at one batch size."""
    errors = [worker.ask(f"batch {batch}") for worker in workers]
    rounds, end = [], time.perf_counter() + seconds
    while len(rounds) < MIN_ROUNDS or time.perf_counter() < end:
        rounds.append([worker.seconds() for worker in workers])
    return np.array(rounds), errors


def rows(models, batches, kinds, seconds, threads, peak):
    """A dict a model, batch size and way, with ``COLUMNS``; ``peak``: GFLOP/s that ``share`` refers to."""
    from paddlevideo_skel.export.onnx_model import count_multiplications

    ways = [way for way in WAYS if way[0] in kinds]
    for name in models:
        with tempfile.TemporaryDirectory() as folder:
            exports = export_all(name, folder, kinds)
            flop = 2 * count_multiplications(exports["paddlevideo"].file(".onnx"))
            workers = [Worker(way, exports[way[0]].stem, threads) for way in ways]
            try:
                for batch in batches:
                    times, errors = measure(workers, batch, seconds)
                    for i, (kind, runtime) in enumerate(ways):
                        taken = float(np.median(times[:, i]))
                        size = sum(exports[kind].file(ending).stat().st_size
                                   for ending in FILES[runtime.partition(",")[0]])
                        ratio, to_plain = (float(np.median(times[:, ways.index(way)] / times[:, i]))
                                           for way in (FIRST, PLAIN))
                        yield {"model": name, "batch": batch, "export": kind, "runtime": runtime, "ms": 1e3 * taken,
                               "ratio": ratio, "to_plain": to_plain if runtime == "onnxruntime" else None,
                               "agreement": errors[i], "MB": size / 1e6, "share": batch * flop / taken / 1e9 / peak}
            finally:
                for worker in workers:
                    worker.stop()


def main():
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="model", help=f"of {', '.join(MODELS)}; default: all")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--exports", nargs="+", choices=EXPORTS, default=list(EXPORTS),
                        help="paddlevideo is always among them: it is what the others are compared with")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each model and batch size")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="a row as a line of JSON")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    devices.prepare_cpu()
    if args.worker:
        stem, runtime, threads = args.worker
        return work(stem, runtime, int(threads))
    if unknown := set(args.models) - set(MODELS):
        parser.error(f"unknown model {', '.join(sorted(unknown))}; known: {', '.join(MODELS)}")
    load_paddle()
    peak = gemm_peak()
    if not args.json:
        print(f"A product of two 2048 x 2048 matrices: {peak:.0f} GFLOP/s")
        print(" | ".join(COLUMNS), flush=True)
    kinds = [kind for kind in EXPORTS if kind in {"paddlevideo", *args.exports}]
    for row in rows(args.models or tuple(MODELS), args.batches, kinds, args.seconds, args.threads, peak):
        told = [("" if row[key] is None else format(row[key], form)) for key, form in COLUMNS.items()]
        print(json.dumps(row) if args.json else " | ".join(told), flush=True)


if __name__ == "__main__":
    main()
