"""INT8 and weights stored in half precision against float32: size, speed and agreement in ONNX Runtime.

    python benchmarks/quantized.py [CTR-GCN-Lite …]

Each model is exported minimal with drawn weights, converted, and rounded; calibration and comparison are on random
samples, so that the agreement says nothing of accuracy (docs/export.md has that of a trained model). All sessions
of a model are timed in turns.
"""
import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from exports import MODELS, export

from paddlevideo_skel import devices
from paddlevideo_skel.cli import load_paddle

SAMPLES, BATCH, ROUNDS, TIMES, PAUSE = 8, 8, 5, 3, 0.25
COLUMNS = ("model", "form", "MB", "batch", "ms", "ratio", "agreement")


def make(name, folder):
    """The .onnx files of a model: ``{form: path}``, and the shape of a sample."""
    import onnx

    from paddlevideo_skel.export import compact, qdq

    made = export(name, folder, "minimal")
    paths = {"float32": made.file(".onnx"), "float16 weights": folder / "half.onnx", "int8": folder / "int8.onnx"}
    compact.halve_weights(paths["float32"], paths["float16 weights"])
    rng = np.random.default_rng(0)
    samples = [rng.normal(0, 0.5, (1, *made.sample_shape)).astype("float32") for _ in range(SAMPLES)]
    model, _ = qdq.Quantizer(paths["float32"], folder, samples, "minmax").quantize_and_correct()
    compact.compact(model)
    onnx.save(model, paths["int8"])
    return paths, made.sample_shape


def measure(name, paths, shape, batch):
    """Rows of one model at one batch size."""
    from paddlevideo_skel.export.qdq import open_ort_session

    sessions = {form: open_ort_session(str(path)) for form, path in paths.items()}
    array = np.random.default_rng(1).normal(0, 0.5, (batch, *shape)).astype("float32")
    times, answers = {form: [] for form in sessions}, {}
    for _ in range(ROUNDS):
        for form, session in sessions.items():
            taken = []
            for _ in range(TIMES):
                start = time.perf_counter()
                answers[form] = session.run(None, {session.get_inputs()[0].name: array})[0]
                taken.append(time.perf_counter() - start)
            times[form].append(np.median(taken))
            time.sleep(PAUSE)  # a session's threads wait by turning, which would be at the next one's cost
    median = {form: 1e3 * float(np.median(seconds)) for form, seconds in times.items()}
    right = answers["float32"]
    return [{"model": name, "form": form, "MB": path.stat().st_size / 1e6, "batch": batch, "ms": median[form],
             "ratio": median["float32"] / median[form],
             "agreement": float(np.abs(answers[form] - right).max() / np.abs(right).max())}
            for form, path in paths.items()]


def rows(models=("CTR-GCN-Lite",), batches=(1, BATCH)):
    """A dict a model, batch size and form, with ``COLUMNS``."""
    for name in models:
        with tempfile.TemporaryDirectory() as folder:
            paths, shape = make(name, Path(folder))
            for batch in batches:
                yield from measure(name, paths, shape, batch)


def main():
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="model", help=f"of {', '.join(MODELS)}; default: all")
    parser.add_argument("--json", action="store_true", help="a row as a line of JSON")
    args = parser.parse_args()
    devices.prepare_cpu()
    load_paddle()
    if not args.json:
        print(" | ".join(COLUMNS))
    for row in rows(args.models or tuple(MODELS)):
        told = (row["model"], row["form"], f"{row['MB']:.2f}", str(row["batch"]), f"{row['ms']:.1f}",
                f"{row['ratio']:.2f}", f"{row['agreement']:.1e}")
        print(json.dumps(row) if args.json else " | ".join(told), flush=True)


if __name__ == "__main__":
    main()
