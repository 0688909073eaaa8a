"""INT8 and weights stored in half precision against float32: size, speed and agreement in ONNX Runtime.

    python benchmarks/quantized.py [CTR-GCN-Lite …]

Each model is exported minimal with drawn weights, converted, and rounded; calibration and comparison are on random
samples, so that the agreement says nothing of accuracy (docs/performance.md has that of a trained model). All sessions
of a model are timed by turns.
"""
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402

from paddlevideo_skel import cpu  # noqa: E402
from paddlevideo_skel.cli import load_paddle  # noqa: E402

RECIPES = {"CTR-GCN-Lite": "ctrgcn/ctrgcn_lite_ntucs_joint_dml.yaml", "CTR-GCN": "ctrgcn/ctrgcn_ntucs_joint.yaml",
           "ST-GCN": "stgcn/stgcn_ntucs.yaml", "ST-GCN++": "stgcn_plusplus/stgcn_plusplus_ntucs.yaml",
           "PoseC3D": "posec3d/posec3d_ucf101.yaml"}
# The clips of a test are ten or twenty; one is enough to tell the ratio.
OVERRIDES = {"ST-GCN++": ["PIPELINE.test.decode_sampler.num_clips=1"],
             "PoseC3D": ["PIPELINE.test.decode_sampler.num_clips=1", "PIPELINE.test.transform.4.GeneratePoseTarget."
                         "double=False"]}
SAMPLES, BATCH, ROUNDS = 8, 8, 5
COLUMNS = ("model", "form", "MB", "batch", "ms", "ratio", "agreement")


def make(name, folder):
    """The .onnx files of a model: ``{form: path}``, and the shape of a sample."""
    import onnx
    from golden_fill import fill

    from paddlevideo_skel.config import load_config
    from paddlevideo_skel.deploy import float16, qdq
    from paddlevideo_skel.deploy.export import export_model
    from paddlevideo_skel.recipe import build_recognizer, main_model

    config = load_config(ROOT / "configs/recognition" / RECIPES[name], OVERRIDES.get(name, []))
    export = export_model(config, fill(main_model(build_recognizer(config))), folder, "m", "minimal", to_onnx=True)
    paths = {"float32": export.file(".onnx"), "float16 weights": folder / "half.onnx", "int8": folder / "int8.onnx"}
    float16.shrink(paths["float32"], paths["float16 weights"])
    rng = np.random.default_rng(0)
    samples = [rng.normal(0, 0.5, (1, *export.sample_shape)).astype("float32") for _ in range(SAMPLES)]
    model, _ = qdq.Quantizer(paths["float32"], folder, samples, "minmax").corrected()
    qdq.compact(model)
    onnx.save(model, paths["int8"])
    return paths, export.sample_shape


def measure(name, paths, shape, batch):
    """Rows of one model at one batch size."""
    from paddlevideo_skel.deploy.qdq import open_session

    sessions = {form: open_session(str(path)) for form, path in paths.items()}
    array = np.random.default_rng(1).normal(0, 0.5, (batch, *shape)).astype("float32")
    times, answers = {form: [] for form in sessions}, {}
    for _ in range(1 + ROUNDS):
        for form, session in sessions.items():
            start = time.perf_counter()
            answers[form] = session.run(None, {session.get_inputs()[0].name: array})[0]
            times[form].append(time.perf_counter() - start)
    median = {form: 1e3 * float(np.median(seconds[1:])) for form, seconds in times.items()}
    right = answers["float32"]
    return [{"model": name, "form": form, "MB": path.stat().st_size / 1e6, "batch": batch, "ms": median[form],
             "ratio": median["float32"] / median[form],
             "agreement": float(np.abs(answers[form] - right).max() / np.abs(right).max())}
            for form, path in paths.items()]


def rows(seconds_budget=60, models=("CTR-GCN-Lite",), batches=(1, BATCH)):
    """Rows for ``make bench``; models that there is no time for any more are left out."""
    found, end = [], time.perf_counter() + seconds_budget
    for name in models:
        if found and time.perf_counter() > end:
            break
        with tempfile.TemporaryDirectory() as folder:
            paths, shape = make(name, Path(folder))
            for batch in batches:
                found += measure(name, paths, shape, 1 if np.prod(shape) > 1_000_000 else batch)
    return found


def main():
    cpu.prepare()
    load_paddle()
    table = [COLUMNS] + [(row["model"], row["form"], f"{row['MB']:.2f}", str(row["batch"]), f"{row['ms']:.1f}",
                          f"{row['ratio']:.2f}", f"{row['agreement']:.1e}")
                         for row in rows(600, sys.argv[1:] or tuple(RECIPES))]
    for line in table:
        print("| " + " | ".join(line) + " |")


if __name__ == "__main__":
    main()
