"""Inference on a CPU: ordinary and minimal exports, in Paddle (oneDNN on and off) and in ONNX Runtime, in turns.

    python benchmarks/inference.py [CTR-GCN-Lite …] [--batches 1 8] [--seconds 8] [--threads 2] [--json]

All ways of a model answer one after the other, round by round, so that what else the machine does meets all of them; a
row has the median, and a ratio is the median of the rounds' ratios: to the ordinary export in Paddle without oneDNN,
and in ONNX Runtime also to the plain conversion, paddle2onnx's of the ordinary export. Wrong answers are shown, not
hidden: an ordinary CTR-GCN is wrong with oneDNN (docs/onednn.md). "share" is the part that a row reaches of a large
matrix product's speed, measured first, if its products are counted as the plain conversion has them.
"""
import argparse
import json
import tempfile
import time

import numpy as np
from exports import MODELS, export

from paddlevideo_skel import cpu
from paddlevideo_skel.cli import load_paddle

WAYS = (("ordinary", "paddle"), ("ordinary", "paddle, oneDNN"), ("minimal", "paddle"), ("minimal", "paddle, oneDNN"),
        ("ordinary", "onnxruntime"), ("minimal", "onnxruntime"))
PLAIN = WAYS.index(("ordinary", "onnxruntime"))
SECONDS, LEAST_ROUNDS = 8.0, 3
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


def open_unchecked(folder, runtime, threads):
    """A runtime whose wrong answers are measured too."""
    from paddlevideo_skel.deploy.onnx_runtime import OnnxRuntime
    from paddlevideo_skel.deploy.paddle_runtime import PaddleRuntime
    from paddlevideo_skel.deploy.runtimes import Options

    options = Options(use_gpu=False, use_npu=False, cpu_threads=threads, enable_mkldnn="oneDNN" in runtime)
    cls = PaddleRuntime if runtime.startswith("paddle") else OnnxRuntime
    return type("Unchecked", (cls,), {"check": lambda self, batch: None})(
        folder, options if cls is PaddleRuntime else Options(use_gpu=False, use_npu=False, cpu_threads=threads))


def measure(runtimes, batch, seconds):
    """Seconds of each answer ``(rounds, ways)``, and each way's relative error, at one batch size."""
    from paddlevideo_skel.deploy.folder import relative_error

    array, right = runtimes[0].selfcheck.repeated(batch)
    errors = [relative_error(runtime.compute(array), right) for runtime in runtimes]  # and a warm-up
    rounds, end = [], time.perf_counter() + seconds
    while len(rounds) < LEAST_ROUNDS or time.perf_counter() < end:
        rounds.append([])
        for runtime in runtimes:
            start = time.perf_counter()
            runtime.compute(array)
            rounds[-1].append(time.perf_counter() - start)
    return np.array(rounds), errors


def rows(models=tuple(MODELS), batches=(1, 8), seconds=SECONDS, threads=2, peak=1.0):
    """A dict a model, batch size and way, with ``COLUMNS``; ``peak``: GFLOP/s that ``share`` refers to."""
    from paddlevideo_skel.deploy.cost import multiplications

    for name in models:
        with tempfile.TemporaryDirectory() as folder:
            exports = export(name, folder)
            flop = 2 * multiplications(exports["ordinary"].file(".onnx"))
            runtimes = [open_unchecked(exports[kind], runtime, threads) for kind, runtime in WAYS]
            for batch in batches:
                times, errors = measure(runtimes, batch, seconds)
                for i, (kind, runtime) in enumerate(WAYS):
                    taken = float(np.median(times[:, i]))
                    size = sum(exports[kind].file(ending).stat().st_size
                               for ending in FILES[runtime.partition(",")[0]])
                    yield {"model": name, "batch": batch, "export": kind, "runtime": runtime, "ms": 1e3 * taken,
                           "ratio": float(np.median(times[:, 0] / times[:, i])),
                           "to_plain": float(np.median(times[:, PLAIN] / times[:, i])) if i >= PLAIN else None,
                           "agreement": errors[i], "MB": size / 1e6, "share": batch * flop / taken / 1e9 / peak}


def main():
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="model", help=f"of {', '.join(MODELS)}; default: all")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each model and batch size")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="a row as a line of JSON")
    args = parser.parse_args()
    if unknown := set(args.models) - set(MODELS):
        parser.error(f"unknown model {', '.join(sorted(unknown))}; known: {', '.join(MODELS)}")
    cpu.prepare()
    load_paddle()
    peak = gemm_peak()
    if not args.json:
        print(f"A product of two 2048 x 2048 matrices: {peak:.0f} GFLOP/s")
        print(" | ".join(COLUMNS))
    for row in rows(args.models or tuple(MODELS), args.batches, args.seconds, args.threads, peak):
        told = [("" if row[key] is None else format(row[key], form)) for key, form in COLUMNS.items()]
        print(json.dumps(row) if args.json else " | ".join(told), flush=True)


if __name__ == "__main__":
    main()
