"""The export that PaddleDetection's PP-Human reads for its skeleton action: ``model.pdmodel``, ``model.pdiparams``,
``infer_cfg.yml``.

PP-Human collects the joints of one tracked person, COCO's 17 in x and y, applies the steps listed in ``infer_cfg.yml``
(of which it knows ``AutoPadding``), feeds ``(1, 2, frames, 17, 1)`` under the name ``data_batch_0``, and takes the
largest logit, without a softmax. Source: ``SkeletonActionRecognizer`` in its ``deploy/pipeline/pphuman``.
"""
import yaml

from ..build import build_recognizer, input_shape
from ..config import SPLITS
from ..data.pipeline import list_steps
from ..errors import ConfigError
from ..models.stgcn import STGCN
from . import onnx_convert
from .export import export

NAME, CONFIG = "model", "infer_cfg.yml"
CHANNELS, JOINTS, PERSONS = 2, 17, 1
HARMLESS = ("Iden", "FormatPersons", "Collect")  # steps that leave one person's coordinates as they are
PROBES = (40, 160)  # frames


def export_pphuman(config, weights, output, kind="ordinary", to_onnx=False, opset=onnx_convert.OPSET):
    """Export for PP-Human; arguments as ``export`` has them.

    Raises:
        ConfigError: the model or its pre-processing is not what PP-Human feeds, or the windows differ.
    """
    model = build_recognizer(config).main
    window = check(config, model)
    text = yaml.safe_dump(infer_cfg(window), sort_keys=False)
    return export(config, weights, output, NAME, kind, "pdmodel", to_onnx, opset, beside={CONFIG: text})


def infer_cfg(window):
    """The content of ``infer_cfg.yml`` for a window in frames."""
    return {"mode": "paddle", "arch": "STGCN", "min_subgraph_size": 3, "use_dynamic_shape": False,
            "Preprocess": [{"type": "AutoPadding", "window_size": window}], "label_list": ["keypoint"]}


def check(config, model):
    """The window, once everything is as PP-Human feeds it."""
    backbone = model.backbone
    where = config.where("MODEL.backbone")
    if not isinstance(backbone, STGCN):
        raise ConfigError(where, f"PP-Human runs STGCN, not {type(backbone).__name__}")
    found = (backbone.in_channels, backbone.layout.num_joints)
    if found != (CHANNELS, JOINTS):
        raise ConfigError(where, f"takes {found[0]} channels of {found[1]} joints; PP-Human feeds {CHANNELS} of COCO's "
                          f"{JOINTS} joints", "Set in_channels: 2, layout: coco_keypoint and train anew")
    check_steps(config)
    windows = {split: window_of(config, model, split) for split in SPLITS if split in config["PIPELINE"]}
    if len(set(windows.values())) > 1:
        told = ", ".join(f"{split} {frames}" for split, frames in windows.items())
        raise ConfigError(config.where("PIPELINE"), f"the windows differ, in frames: {told}",
                          "PP-Human prepares samples as PIPELINE.test does; train with the same window")
    persons = input_shape(config, model)[-1]
    if persons != PERSONS:
        raise ConfigError(config.where("PIPELINE.test"), f"makes {persons} persons; PP-Human feeds {PERSONS}")
    return windows["test"]


def check_steps(config):
    """Refuse a test pipeline that PP-Human would not carry out."""
    for name, arguments, where in list_steps(config.section("PIPELINE.test"), config.where("PIPELINE.test")):
        if name not in ("AutoPadding", *HARMLESS):
            raise ConfigError(where, f"PP-Human does not apply {name} before the network",
                              "Apply it to the data beforehand as PP-Human has them, or leave it out")
        if arguments.get("random_pad"):
            raise ConfigError(where, "random_pad makes PP-Human's answers random", "Set random_pad: False")


def window_of(config, model, split):
    """Frames that a split's pipeline makes; where it takes what the file has, ``INFERENCE.window_size``."""
    given = config.get("INFERENCE", {}).get("window_size")
    short, long = (input_shape(config, model, split, frames)[1] for frames in PROBES)
    if short != long:
        if given is None:
            raise ConfigError(config.where(f"PIPELINE.{split}"), "no step of it says how many frames a sample has",
                              "Add AutoPadding with the window_size to train, valid and test")
        return given
    if given not in (None, short):
        raise ConfigError(config.where("INFERENCE.window_size"),
                          f"is {given}, but PIPELINE.{split} makes {short} frames",
                          "Take it out: the window comes from the pipeline")
    return short
