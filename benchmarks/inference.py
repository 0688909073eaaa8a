"""Paddle Inference on a CPU: ordinary and minimal exports, with oneDNN and without, measured in turns in one run.

    python benchmarks/inference.py [--models ctrgcn_lite …] [--batch 1 8] [--repeats 10]

The ratio is to the ordinary export without oneDNN at the same batch size. Wrong answers are shown, not hidden: an
ordinary CTR-GCN is wrong with oneDNN (docs/onednn.md).
"""
import argparse
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from paddlevideo_skel import cpu  # noqa: E402
from paddlevideo_skel.cli import load_paddle  # noqa: E402

# Of ST-GCN++ and PoseC3D one clip is measured: each further clip costs the same.
MODELS = {
    "ctrgcn_lite": ("ctrgcn/ctrgcn_lite_ntucs_joint_dml.yaml", ()),
    "ctrgcn": ("ctrgcn/ctrgcn_ntucs_joint.yaml", ()),
    "stgcn_plusplus": ("stgcn_plusplus/stgcn_plusplus_ntucs.yaml",
                       ("PIPELINE.test.decode_sampler.num_clips=1",)),
    "stgcn": ("stgcn/stgcn_ntucs.yaml", ()),
    "posec3d": ("posec3d/posec3d_ucf101.yaml", ("PIPELINE.test.decode_sampler.num_clips=1",)),
}
WAYS = (("ordinary", False), ("ordinary", True), ("minimal", False), ("minimal", True))
MB = 1e6


def export(name, folder):
    """The two exports of a model with deterministic weights."""
    from golden_fill import fill

    from paddlevideo_skel.config import load_config
    from paddlevideo_skel.deploy.export import export_model
    from paddlevideo_skel.recipe import build_recognizer, main_model

    path, overrides = MODELS[name]
    config = load_config(ROOT / "configs" / "recognition" / path, list(overrides))
    model = fill(main_model(build_recognizer(config)))
    return {kind: export_model(config, model, Path(folder) / kind, "model", kind) for kind in ("ordinary", "minimal")}


def open_unchecked(folder, onednn):
    """A runtime whose wrong answers are measured too."""
    from paddlevideo_skel.deploy.paddle_runtime import PaddleRuntime
    from paddlevideo_skel.deploy.runtimes import Options

    class Unchecked(PaddleRuntime):
        def check(self, batch):
            """Nothing is refused: the benchmark tells the error."""

    return Unchecked(folder, Options(use_gpu=False, use_npu=False, enable_mkldnn=onednn))


def measure(exports, batch, repeats):
    """Milliseconds (median) and relative error of each way of ``WAYS``."""
    import numpy as np

    from paddlevideo_skel.deploy.folder import relative_error

    runtimes = [open_unchecked(exports[kind], onednn) for kind, onednn in WAYS]
    array, logits = runtimes[0].selfcheck.repeated(batch)
    errors = [relative_error(runtime.compute(array), logits) for runtime in runtimes]
    times = [[] for _ in runtimes]
    for _ in range(repeats):
        for runtime, measured in zip(runtimes, times, strict=True):
            start = time.perf_counter()
            runtime.compute(array)
            measured.append(time.perf_counter() - start)
    return [(float(np.median(measured)) * 1000, error) for measured, error in zip(times, errors, strict=True)]


def rows(models=tuple(MODELS), batches=(1, 8), repeats=10):
    """A dict for each measured row: model, export, runtime, batch, ms, ratio, agreement (relative error), MB."""
    found = []
    for name in models:
        with tempfile.TemporaryDirectory() as folder:
            exports = export(name, folder)
            for batch in batches:
                measured = measure(exports, batch, repeats)
                for (kind, onednn), (ms, error) in zip(WAYS, measured, strict=True):
                    size = sum(file.stat().st_size for file in exports[kind].stem.parent.iterdir())
                    found.append({"model": name, "export": kind, "runtime": "paddle" + " oneDNN" * onednn,
                                  "batch": batch, "ms": ms, "ratio": measured[0][0] / ms, "agreement": error,
                                  "MB": size / MB})
    return found


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--repeats", type=int, default=10)
    args = parser.parse_args()
    cpu.prepare()
    load_paddle()
    print("| model | export | runtime | batch | ms | ratio | relative error | MB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in rows(args.models, args.batch, args.repeats):
        print("| {model} | {export} | {runtime} | {batch} | {ms:.1f} | {ratio:.2f} | {agreement:.0e} | {MB:.2f} |"
              .format(**row))


if __name__ == "__main__":
    main()
