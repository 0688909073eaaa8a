"""ONNX Runtime: the minimal export's model against the plain conversion of the ordinary one, side by side.

``python benchmarks/onnx_speed.py [model …] [--batches 1,8] [--threads 2]``. The plain conversion is what paddle2onnx
makes of the ordinary export. Both models of a pair answer in turn, so that what else the machine does meets both; a
row has the median, and the ratio is the median of each round's ratio. Weights are deterministic: speed does not depend
on them. Every model here has passed its self-check.
"""
import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from paddlevideo_skel import cpu  # noqa: E402
from paddlevideo_skel.cli import load_paddle  # noqa: E402

# Config under configs/recognition, and overrides: one clip a sample, where a test takes ten.
ONE_CLIP = ("PIPELINE.test.decode_sampler.num_clips=1",)
MODELS = {
    "CTR-GCN-Lite": ("ctrgcn/ctrgcn_lite_ntucs_joint_dml.yaml", ()),
    "ST-GCN++": ("stgcn_plusplus/stgcn_plusplus_ntucs.yaml", ONE_CLIP),
    "ST-GCN": ("stgcn/stgcn_ntucs.yaml", ()),
    "CTR-GCN": ("ctrgcn/ctrgcn_ntucs_joint.yaml", ()),
    "PoseC3D": ("posec3d/posec3d_ucf101.yaml", ONE_CLIP),
}
KINDS = ("ordinary", "minimal")
SECONDS = 6.0
LEAST_ROUNDS = 3


def exports(path, overrides, folder):
    """Both exports of a config's model with deterministic weights, converted: kind → ``ExportFolder``."""
    from golden_fill import fill

    from paddlevideo_skel.config import load_config
    from paddlevideo_skel.deploy.export import export_model
    from paddlevideo_skel.recipe import build_recognizer, main_model

    config = load_config(ROOT / "configs" / "recognition" / path, overrides)
    model = fill(main_model(build_recognizer(config)))
    return {kind: export_model(config, model, Path(folder) / kind, "model", kind, to_onnx=True) for kind in KINDS}


def measure(runtimes, batch, seconds):
    """Seconds of each answer ``(rounds, runtimes)``, and each runtime's relative error, at one batch size."""
    from paddlevideo_skel.deploy.folder import relative_error

    array, right = runtimes[0].selfcheck.repeated(batch)
    errors = [relative_error(runtime.compute(array), right) for runtime in runtimes]  # and a warm-up
    rounds, end = [], time.perf_counter() + seconds
    while len(rounds) < LEAST_ROUNDS or time.perf_counter() < end:
        rounds.append([runtime.timed(array)[1] for runtime in runtimes])
    return np.array(rounds), errors


def rows(models=tuple(MODELS), batches=(1, 8), threads=2, seconds=SECONDS):
    """One dict a model, batch size and kind: ``model, export, batch, ms, ratio`` (how many times as fast as the plain
    conversion) and ``agreement``, the relative error against the dynamic graph."""
    from paddlevideo_skel.deploy.runtimes import Options, open_runtime

    options = Options(use_gpu=False, use_npu=False, cpu_threads=threads)
    for model in models:
        with tempfile.TemporaryDirectory() as folder:
            made = exports(*MODELS[model], folder)
            runtimes = [open_runtime(made[kind], "onnxruntime", options) for kind in KINDS]
            for batch in batches:
                times, errors = measure(runtimes, batch, seconds)
                ratios = np.median(times[:, :1] / times, axis=0)
                for kind, taken, ratio, error in zip(KINDS, np.median(times, axis=0), ratios, errors, strict=True):
                    yield {"model": model, "export": kind, "batch": batch, "ms": 1e3 * taken, "ratio": ratio,
                           "agreement": error}


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="model", help=f"of {', '.join(MODELS)}; default: all")
    parser.add_argument("--batches", default="1,8", help="batch sizes, default 1,8")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each pair")
    args = parser.parse_args()
    if unknown := set(args.models) - set(MODELS):
        parser.error(f"unknown model {', '.join(sorted(unknown))}; known: {', '.join(MODELS)}")
    cpu.prepare()
    load_paddle()
    print("| model | batch | export | ms | times as fast | error against the dynamic graph |")
    print("| --- | --- | --- | --- | --- | --- |")
    batches = [int(batch) for batch in args.batches.split(",")]
    for row in rows(args.models or tuple(MODELS), batches, args.threads, args.seconds):
        print(f"| {row['model']} | {row['batch']} | {row['export']} | {row['ms']:.1f} | {row['ratio']:.2f} | "
              f"{row['agreement']:.0e} |", flush=True)


if __name__ == "__main__":
    main()
