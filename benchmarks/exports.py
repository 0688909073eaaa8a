"""The five models' exports, converted: what the benchmarks of inference measure.

    python benchmarks/exports.py MODEL FOLDER KIND …
"""
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]

# Config under configs/recognition, and overrides. Of ST-GCN++ and PoseC3D one clip is measured: each further one costs
# the same.
ONE_CLIP = ("PIPELINE.test.decode_sampler.num_clips=1",)
MODELS = {
    "CTR-GCN-Lite": ("ctrgcn/ctrgcn_lite_ntucs_joint_dml.yaml", ()),
    "ST-GCN++": ("stgcn_plusplus/stgcn_plusplus_ntucs.yaml", ONE_CLIP),
    "ST-GCN": ("stgcn/stgcn_ntucs.yaml", ()),
    "CTR-GCN": ("ctrgcn/ctrgcn_ntucs_joint.yaml", ()),
    "PoseC3D": ("posec3d/posec3d.yaml",
                (*ONE_CLIP, "PIPELINE.test.transform.4.GeneratePoseTarget.double=False")),
}


def build(path, overrides=()):
    """A config under configs/recognition, and its model with deterministic weights: costs do not depend on them."""
    from golden_fill import fill

    from paddlevideo_skel.build import build_recognizer
    from paddlevideo_skel.config import load_config

    config = load_config(ROOT / "configs" / "recognition" / path, list(overrides))
    return config, fill(build_recognizer(config).main)


def export(name, folder, kind):
    """The ``ExportFolder`` of one of ``MODELS``: ordinary, minimal, or ``paddlevideo``, PaddleVideo's graph, ordinary.

    PaddleVideo's layers stay in use in the whole process.
    """
    from paddlevideo_skel.export.exporter import export_model

    if kind == "paddlevideo":
        import paddlevideo_layers

        paddlevideo_layers.use()
    form = "ordinary" if kind == "paddlevideo" else kind
    return export_model(*build(*MODELS[name]), Path(folder) / kind, "model", form, to_onnx=True)


def export_all(name, folder, kinds):
    """Make several kinds at the same time, in a process each; kind → ``ExportFolder``.

    Raises:
        RuntimeError: a process failed; with the end of what it said.
    """
    from paddlevideo_skel.inference.artifact import ExportFolder

    started = {kind: subprocess.Popen([sys.executable, __file__, name, str(folder), kind], text=True,
                                      stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for kind in kinds}
    for kind, process in started.items():
        said = process.communicate()[1]
        if process.returncode:
            raise RuntimeError(f"{name}, {kind}: the export failed: {said[-2000:]}")
    return {kind: ExportFolder(Path(folder) / kind / "model") for kind in kinds}


def main():
    """Make exports for somebody else to measure."""
    from paddlevideo_skel import devices
    from paddlevideo_skel.cli import load_paddle

    devices.prepare_cpu()
    load_paddle()
    name, folder, *kinds = sys.argv[1:]
    for kind in kinds:
        export(name, folder, kind)


if __name__ == "__main__":
    main()
