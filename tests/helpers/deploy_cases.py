"""Small models, configs and samples for the tests of exports and runtimes."""
import pickle

import numpy as np
import paddle
import small_models
from golden_fill import fill
from paths import CONFIGS as CONFIG_FOLDER

from paddlevideo_skel.build import build_recognizer
from paddlevideo_skel.config import load_config

CONFIGS = CONFIG_FOLDER
JOINTS, FRAMES, CLASSES = 20, 16, 10
WINDOW = f"PIPELINE.test.sample.2.SketeonCropSample.window_size={FRAMES}"
WIDTHS = {name: spec["backbone"].get("base_channel") or spec["backbone"].get("base_channels")
          for name, spec in small_models.SMALL.items()}
STGCN_PLUSPLUS = [f"MODEL.backbone.base_channels={WIDTHS['STGCNPlusPlus']}",
                  f"MODEL.head.in_channels={2 * WIDTHS['STGCNPlusPlus']}",
                  f"PIPELINE.test.transform.2.UniformSampleFrames.clip_len={FRAMES}",
                  "PIPELINE.test.transform.2.UniformSampleFrames.num_clips=2"]
# The packaged configs with the widths of ``small_models`` and short samples; "tiny" is for tests of what surrounds a
# model.
SMALL = {
    "ctrgcn": ("ctrgcn/ctrgcn_lite_utkinect.yaml",
               [f"MODEL.backbone.base_channel={WIDTHS['CTRGCNLite']}",
                f"MODEL.head.in_channels={WIDTHS['CTRGCNLite']}", "MODEL.backbone.remove_l9=True", WINDOW]),
    "stgcn_plusplus": ("stgcn_plusplus/stgcn_plusplus_utkinect.yaml",
                       ["MODEL.backbone.num_stages=5", *STGCN_PLUSPLUS]),
    "tiny": ("stgcn_plusplus/stgcn_plusplus_utkinect.yaml",
             ["MODEL.backbone.num_stages=2", "MODEL.backbone.inflate_stages=[2]", "MODEL.backbone.down_stages=[2]",
              *STGCN_PLUSPLUS]),
    "stgcn": ("stgcn/stgcn_utkinect.yaml", [f"PIPELINE.test.transform.1.UniformSampleFrames.clip_len={FRAMES}"]),
    "posec3d": ("posec3d/posec3d_hmdb51.yaml",
                [f"MODEL.backbone.base_channels={WIDTHS['ResNet3dSlowOnly']}", "MODEL.backbone.stage_blocks=[1,1,1]",
                 f"MODEL.head.in_channels={16 * WIDTHS['ResNet3dSlowOnly']}",
                 "PIPELINE.test.decode_sampler.clip_len=8", "PIPELINE.test.decode_sampler.num_clips=2",
                 "PIPELINE.test.transform.2.Resize.scale=[-1,16]",
                 "PIPELINE.test.transform.3.CenterCrop_V2.crop_size=16"]),
    "distilled": ("ctrgcn/ctrgcn_lite_utkinect_dml.yaml",
                  [f"MODEL.models.{i}.{name}.{key}={WIDTHS['CTRGCN']}" for i, name in enumerate(("Teacher", "Student"))
                   for key in ("backbone.base_channel", "head.in_channels")] +
                  ["MODEL.models.1.Student.backbone.remove_l9=True", WINDOW]),
}


def small_config(name, *overrides):
    """A small model's config by its name in ``SMALL``."""
    path, own = SMALL[name]
    return load_config(CONFIGS / path, [*own, *overrides])


def filled(config, seed=0):
    """The config's main model with deterministic weights."""
    return fill(build_recognizer(config).main, seed=seed)


def dynamic(model, array):
    """Logits of the dynamic graph."""
    with paddle.no_grad():
        return model(paddle.to_tensor(np.ascontiguousarray(array))).numpy()


def sequence(seed=0, persons=1, frames=30, joints=JOINTS, channels=3):
    """Coordinates ``(M, T, V, C)`` of somebody who sways, in metres."""
    rng = np.random.default_rng(seed)
    pose = rng.normal(0, 0.4, (persons, 1, joints, channels))
    return (pose + np.cumsum(rng.normal(0, 0.02, (persons, frames, joints, channels)), axis=1)).astype("float32")


def write_npy(path, seed=0, **shape):
    """One sample as ``(C, T, V, M)``."""
    np.save(path, sequence(seed, **shape).transpose(3, 1, 2, 0))
    return path


def write_set(path, count, **shape):
    """A data set pickle of ``count`` sequences."""
    annotations = [{"frame_dir": f"s{i:02d}", "label": i % CLASSES, "total_frames": 30,
                    "keypoint": sequence(i, **shape)} for i in range(count)]
    path.write_bytes(pickle.dumps({"split": {"all": [a["frame_dir"] for a in annotations]},
                                   "annotations": annotations}))
    return path
