"""The deterministic weights and inputs behind the golden logits in ``golden/*.json``.

Every entry of a state dict is drawn from a generator seeded by the entry's name, so that a model of any framework
can be filled alike. The golden logits are what the reference implementations gave for them.
"""
import json
import math
import zlib

import numpy as np
from paths import GOLDEN as GOLDEN_FOLDER

GOLDEN = GOLDEN_FOLDER
CTRGCN = {"num_point": 25, "num_person": 2, "base_channel": 64, "graph": "ntu_rgb_d",
          "graph_args": {"labeling_mode": "spatial"}, "in_channels": 3, "adaptive": True}
HEADS = {"CTRGCN": {"name": "CTRGCNHead", "num_classes": 60, "in_channels": 64, "drop_out": 0},
         "STGCNPlusPlus": {"name": "STGCNPlusPlusHead", "num_classes": 60, "in_channels": 256}}
MODELS = {
    "ctrgcn": {"framework": "RecognizerGCN", "backbone": {"name": "CTRGCN", **CTRGCN}, "head": HEADS["CTRGCN"]},
    "ctrgcn_lite": {"framework": "RecognizerGCN", "backbone": {"name": "CTRGCNLite", **CTRGCN},
                    "head": HEADS["CTRGCN"]},
    "stgcn_plusplus_coco": {
        "framework": "RecognizerGCN", "head": HEADS["STGCNPlusPlus"],
        "backbone": {"name": "STGCNPlusPlus", "gcn_adaptive": "init", "gcn_with_res": True, "tcn_type": "mstcn",
                     "layout": "coco_keypoint", "strategy": "spatial"}},
    "stgcn_ntu": {"framework": "RecognizerGCN", "head": {"name": "STGCNHead", "num_classes": 60},
                  "backbone": {"name": "STGCN", "in_channels": 3, "dropout": 0.5, "layout": "ntu-rgb+d"}},
    "stgcn_kinetics": {"framework": "RecognizerGCN", "head": {"name": "STGCNHead", "num_classes": 400},
                       "backbone": {"name": "STGCN", "in_channels": 3, "dropout": 0.5, "layout": "openpose"}},
    "posec3d_hmdb51": {
        "framework": "Recognizer3D", "head": {"name": "I3DHead", "num_classes": 51, "in_channels": 512},
        "backbone": {"name": "ResNet3dSlowOnly", "depth": 50, "in_channels": 17, "base_channels": 32,
                     "conv1_kernel": [1, 7, 7], "num_stages": 3, "out_indices": [2], "stage_blocks": [3, 4, 6],
                     "conv1_stride_s": 1, "pool1_stride_s": 1, "inflate": [0, 1, 1], "with_pool2": False,
                     "spatial_strides": [2, 2, 2], "temporal_strides": [1, 1, 2], "dilations": [1, 1, 1]}},
}


def golden(name):
    """A golden file's content."""
    return json.loads((GOLDEN / f"{name}.json").read_text())


def entry(name, shape, seed=0, initial=None):
    """Value of one state-dict entry, float32."""
    rng = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2 ** 32)
    noise = rng.standard_normal(shape)
    if name.endswith("_variance"):
        return (0.5 + rng.random_sample(shape)).astype("float32")
    if name.endswith(("_mean", ".bias")):
        return (0.1 * noise).astype("float32")
    if name.endswith(".weight"):
        if len(shape) == 1:
            return (1 + 0.1 * noise).astype("float32")
        fan_in = shape[0] if len(shape) == 2 else math.prod(shape[1:])
        return (0.7 * noise / math.sqrt(fan_in)).astype("float32")
    if name.endswith("alpha"):
        return (0.3 + 0.1 * noise).astype("float32")
    return (np.asarray(initial) + 0.05 * noise).astype("float32")


def network_input(shape, seed=0):
    """The input batch, float32."""
    return np.random.RandomState(seed + 7).standard_normal(shape).astype("float32")


def fill(model, names=None, seed=0):
    """Fill a paddle model's state dict (or only ``names``) and put it into evaluation mode; returns the model.

    ``backbone.A`` is a fixed graph and keeps its value.
    """
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    for name in state if names is None else names:
        if name != "backbone.A":
            state[name] = entry(name, state[name].shape, seed, state[name])
    model.set_state_dict(state)
    model.eval()
    return model
