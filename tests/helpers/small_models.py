"""One small model of each family, with the shape of its input and a pipeline that makes it."""
import json
from typing import NamedTuple

import numpy as np
import paddle

from paddlevideo_skel.models import build_model
from paddlevideo_skel.models.cpu import accelerate

TRIANGLE = {"name": "triangle", "joints": 5, "bones": [[0, 1], [1, 2], [1, 3], [3, 4]], "center": 1}


class Row(NamedTuple):
    """A small model: its two parts, the shape of a sample, the pipeline that makes one, the framework."""

    backbone: dict
    head: dict
    shape: tuple
    pipeline: list
    framework: str = "RecognizerGCN"


ROWS = {
    "CTRGCN": Row({"graph": TRIANGLE, "num_person": 1, "base_channel": 16},
                  {"name": "CTRGCNHead", "num_classes": 3, "in_channels": 16}, (3, 16, 5, 1), ["Iden"]),
    "CTRGCNLite": Row({"graph": TRIANGLE, "num_person": 3, "base_channel": 16, "in_channels": 2},
                      {"name": "CTRGCNHead", "num_classes": 3, "in_channels": 16}, (2, 16, 5, 3),
                      [{"FormatPersons": {"num_person": 3}}]),
    "STGCNPlusPlus": Row({"layout": TRIANGLE, "base_channels": 12, "num_stages": 5, "inflate_stages": [2, 4],
                          "down_stages": [2, 4]},
                         {"name": "STGCNPlusPlusHead", "num_classes": 3, "in_channels": 48}, (1, 2, 16, 5, 3),
                         ["PoseDecode", {"FormatGCNInput": {"num_person": 2}}]),
    "STGCN": Row({"layout": TRIANGLE, "in_channels": 3}, {"name": "STGCNHead", "num_classes": 3}, (3, 16, 5, 2),
                 ["Iden"]),
    "ResNet3dSlowOnly": Row({"in_channels": 5, "base_channels": 8, "stage_blocks": [1, 2, 1], "layout": TRIANGLE},
                            {"name": "I3DHead", "num_classes": 3, "in_channels": 128, "drop_ratio": 0}, (5, 8, 16, 16),
                            [{"UniformSampleFrames": {"clip_len": 8, "test_mode": True, "num_clips": 2}}, "PoseDecode",
                             {"Resize": {"scale": [16, 16], "keep_ratio": False}}, "GeneratePoseTarget",
                             {"FormatShape": {"input_format": "NCTHW"}}], "Recognizer3D"),
}
SMALL = {name: {"framework": row.framework, "backbone": {"name": name, **row.backbone}, "head": row.head}
         for name, row in ROWS.items()}  # a MODEL section
SHAPES = {name: row.shape for name, row in ROWS.items()}
PIPELINES = {name: row.pipeline for name, row in ROWS.items()}


def small_spec(name, **changes):
    """The MODEL section of a small model; ``changes`` are arguments of its backbone."""
    spec = json.loads(json.dumps(SMALL[name]))
    spec["backbone"].update(changes)
    return spec


def small(name, **changes):
    """A small model, accelerated as a CPU runs it; ``changes`` are arguments of its backbone."""
    return accelerate(build_model(small_spec(name, **changes)))


def sample(name, batch, seed=0):
    return paddle.to_tensor(np.random.default_rng(seed).normal(size=(batch, *SHAPES[name])).astype("float32"))


def distillation(frozen=(True, False)):
    student = {"backbone": {**SMALL["CTRGCN"]["backbone"], "name": "CTRGCNLite"}, "head": SMALL["CTRGCN"]["head"]}
    return {"framework": "RecognizerDistillation", "freeze_params_list": list(frozen),
            "models": [{"Teacher": SMALL["CTRGCN"]}, {"Student": student}], "loss": {}}


def arrays(model):
    """A model's state as arrays, by name."""
    return {name: value.numpy() for name, value in model.state_dict().items()}


def same(a, b):
    """Whether two states of arrays are equal."""
    return set(a) == set(b) and all(np.array_equal(a[k], b[k]) for k in a)
