"""Small models, configs and samples for the tests of exports and runtimes."""
import pickle

import numpy as np
import paddle
from golden_fill import fill
from paths import CONFIGS as CONFIG_FOLDER

from paddlevideo_skel.build import build_recognizer
from paddlevideo_skel.config import load_config

CONFIGS = CONFIG_FOLDER
JOINTS, FRAMES, CLASSES = 20, 16, 10
WINDOW = f"PIPELINE.test.sample.2.SketeonCropSample.window_size={FRAMES}"
SMALL = {
    "ctrgcn": ("ctrgcn/ctrgcn_lite_utkinect.yaml",
               ["MODEL.backbone.base_channel=16", "MODEL.head.in_channels=16", "MODEL.backbone.remove_l9=True",
                WINDOW]),
    "stgcn_plusplus": ("stgcn_plusplus/stgcn_plusplus_utkinect.yaml",
                       ["MODEL.backbone.base_channels=12", "MODEL.backbone.num_stages=5", "MODEL.head.in_channels=24",
                        f"PIPELINE.test.transform.2.UniformSampleFrames.clip_len={FRAMES}",
                        "PIPELINE.test.transform.2.UniformSampleFrames.num_clips=2"]),
    "stgcn": ("stgcn/stgcn_utkinect.yaml", [f"PIPELINE.test.transform.1.UniformSampleFrames.clip_len={FRAMES}"]),
    "posec3d": ("posec3d/posec3d_hmdb51.yaml",
                ["MODEL.backbone.base_channels=8", "MODEL.backbone.stage_blocks=[1,1,1]", "MODEL.head.in_channels=128",
                 "PIPELINE.test.decode_sampler.clip_len=8", "PIPELINE.test.decode_sampler.num_clips=2",
                 "PIPELINE.test.transform.2.Resize.scale=[-1,16]",
                 "PIPELINE.test.transform.3.CenterCrop_V2.crop_size=16"]),
    "distilled": ("ctrgcn/ctrgcn_lite_utkinect_dml.yaml",
                  [f"MODEL.models.{i}.{name}.{key}=16" for i, name in enumerate(("Teacher", "Student"))
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
