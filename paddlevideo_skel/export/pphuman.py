"""Exports for skeleton action recognition in PaddleDetection's PP-Human: ``model.pdmodel``, ``model.pdiparams`` and
``infer_cfg.yml``.

PP-Human collects the joints of one tracked person, COCO's 17 in x and y, applies the steps listed in ``infer_cfg.yml``
(``AutoPadding`` is the only one it knows), feeds ``(1, 2, frames, 17, 1)`` as ``data_batch_0``, and takes the largest
logit, without a softmax. Source: ``SkeletonActionRecognizer`` in its ``deploy/pipeline/pphuman``.
"""
import yaml

from ..build import build_recognizer, input_shape
from ..config_schema import SPLITS
from ..data.pipeline import list_steps
from ..errors import ConfigError
from ..models.stgcn import STGCN
from .exporter import export_checkpoint
from .onnx_convert import DEFAULT_OPSET

PPHUMAN_NAME, PPHUMAN_CONFIG = "model", "infer_cfg.yml"
PPHUMAN_CHANNELS, PPHUMAN_JOINTS, PPHUMAN_PERSONS = 2, 17, 1
HARMLESS_STEPS = ("Iden", "FormatPersons", "Collect")  # they do not change the coordinates of one person
PROBED_LENGTHS = (40, 160)  # frames


def export_pphuman(config, weights, output, kind="ordinary", to_onnx=False, opset=DEFAULT_OPSET):
    """Export for PP-Human; arguments as for ``export_checkpoint``.

    Raises:
        ConfigError: see ``check_for_pphuman``.
    """
    model = build_recognizer(config).main
    window = check_for_pphuman(config, model)
    text = yaml.safe_dump(make_infer_cfg(window), sort_keys=False)
    return export_checkpoint(config, weights, output, PPHUMAN_NAME, kind, "pdmodel", to_onnx, opset,
                             beside={PPHUMAN_CONFIG: text})


def make_infer_cfg(window):
    """The content of ``infer_cfg.yml`` for a window in frames."""
    return {"mode": "paddle", "arch": "STGCN", "min_subgraph_size": 3, "use_dynamic_shape": False,
            "Preprocess": [{"type": "AutoPadding", "window_size": window}], "label_list": ["keypoint"]}


def check_for_pphuman(config, model):
    """Check that the model takes what PP-Human feeds.

    Returns:
        the window in frames.

    Raises:
        ConfigError: the model or its test pipeline takes something else, or the windows of the splits differ.
    """
    backbone = model.backbone
    where = config.where("MODEL.backbone")
    if not isinstance(backbone, STGCN):
        raise ConfigError(where, f"found {type(backbone).__name__}, but PP-Human runs STGCN")
    found = (backbone.in_channels, backbone.layout.num_joints)
    if found != (PPHUMAN_CHANNELS, PPHUMAN_JOINTS):
        raise ConfigError(where, f"takes {found[0]} channels of {found[1]} joints, but PP-Human feeds "
                          f"{PPHUMAN_CHANNELS} channels of COCO's {PPHUMAN_JOINTS} joints",
                          "Set in_channels: 2 and layout: coco_keypoint, and train again")
    check_pphuman_steps(config)
    windows = {split: window_of(config, model, split) for split in SPLITS if split in config["PIPELINE"]}
    if len(set(windows.values())) > 1:
        lengths = ", ".join(f"{split} {frames}" for split, frames in windows.items())
        raise ConfigError(config.where("PIPELINE"), f"the window lengths differ (in frames): {lengths}",
                          "PP-Human preprocesses samples like PIPELINE.test; train with the same window")
    persons = input_shape(config, model)[-1]
    if persons != PPHUMAN_PERSONS:
        raise ConfigError(config.where("PIPELINE.test"), f"makes {persons} persons, but PP-Human feeds "
                          f"{PPHUMAN_PERSONS}")
    return windows["test"]


def check_pphuman_steps(config):
    """
    Raises:
        ConfigError: PP-Human does not do what the test pipeline does.
    """
    for name, arguments, where in list_steps(config.section("PIPELINE.test"), config.where("PIPELINE.test")):
        if name not in ("AutoPadding", *HARMLESS_STEPS):
            raise ConfigError(where, f"PP-Human does not apply {name}",
                              "Remove it; the model must be trained on coordinates as PP-Human provides them")
        if arguments.get("random_pad"):
            raise ConfigError(where, "random_pad would make PP-Human's results random", "Set random_pad: False")


def window_of(config, model, split):
    """Frames of the samples of a split: set by its pipeline, or else ``INFERENCE.window_size``."""
    given = config.get("INFERENCE", {}).get("window_size")
    short, long = (input_shape(config, model, split, frames)[1] for frames in PROBED_LENGTHS)
    if short != long:
        if given is None:
            raise ConfigError(config.where(f"PIPELINE.{split}"), "no step sets the number of frames of a sample",
                              "Add AutoPadding with a window_size to train, valid and test")
        return given
    if given not in (None, short):
        raise ConfigError(config.where("INFERENCE.window_size"),
                          f"is {given}, but PIPELINE.{split} makes {short} frames",
                          "Remove it: the pipeline sets the window")
    return short
