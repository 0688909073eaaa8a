"""The five models' exports, ordinary and minimal, both converted: what the benchmarks of inference measure."""
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

# Config under configs/recognition, and overrides. Of ST-GCN++ and PoseC3D one clip is measured: each further one costs
# the same.
ONE_CLIP = ("PIPELINE.test.decode_sampler.num_clips=1",)
MODELS = {
    "CTR-GCN-Lite": ("ctrgcn/ctrgcn_lite_ntucs_joint_dml.yaml", ()),
    "ST-GCN++": ("stgcn_plusplus/stgcn_plusplus_ntucs.yaml", ONE_CLIP),
    "ST-GCN": ("stgcn/stgcn_ntucs.yaml", ()),
    "CTR-GCN": ("ctrgcn/ctrgcn_ntucs_joint.yaml", ()),
    "PoseC3D": ("posec3d/posec3d_ucf101.yaml",
                (*ONE_CLIP, "PIPELINE.test.transform.4.GeneratePoseTarget.double=False")),
}


def build(path, overrides=()):
    """A config under configs/recognition, and its model with deterministic weights: costs do not depend on them."""
    from golden_fill import fill

    from paddlevideo_skel.config import load_config
    from paddlevideo_skel.recipe import build_recognizer, main_model

    config = load_config(ROOT / "configs" / "recognition" / path, list(overrides))
    return config, fill(main_model(build_recognizer(config)))


def export(name, folder, kinds=("ordinary", "minimal")):
    """Kind → ``ExportFolder`` of one of ``MODELS``."""
    from paddlevideo_skel.deploy.export import export_model

    config, model = build(*MODELS[name])
    return {kind: export_model(config, model, Path(folder) / kind, "model", kind, to_onnx=True) for kind in kinds}
