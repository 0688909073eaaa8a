"""Build the model and the pipeline of a config, and check that they fit each other before long work starts.

Training, testing and export all start here. Needs paddle, for the model; prediction does not use this module.
"""
import numpy as np

from .data.annotation import Annotation
from .data.datasets import DATASETS
from .data.mixup import MIXES
from .data.pipeline import Pipeline, check_pipeline
from .errors import ConfigError, SkelError
from .models import build_model, check_model
from .models.cpu import apply_implementation

PROBE_FRAMES = 100


def check_parts(config, splits):
    """Check the names and arguments of the model, the data sets and the pipelines of ``splits``, and of mixup.

    Raises:
        ConfigError: an unknown name or argument.
    """
    check_model(config.section("MODEL"), config.where("MODEL"))
    for split in splits:
        where = config.where(f"DATASET.{split}")
        arguments = dict(config.section(f"DATASET.{split}"))
        DATASETS.check(arguments.pop("format", None), arguments, where, given=("bad",))
        check_pipeline(config.section(f"PIPELINE.{split}"), config.where(f"PIPELINE.{split}"))
    if "train" in splits and config.get("MIX"):
        MIXES.build_spec(config["MIX"], config.where("MIX"))


def build_recognizer(config):
    """The recognizer of a config, in the fastest implementation for the current device (``models.cpu``)."""
    return apply_implementation(build_model(config.section("MODEL"), config.where("MODEL")))


def build_pipeline(config, split):
    """The pipeline of a split."""
    return Pipeline(config.section(f"PIPELINE.{split}"), config.where(f"PIPELINE.{split}"))


def input_shape(config, model, split="test", frames=None):
    """Shape of one sample as the pipeline of ``split`` makes it and ``model`` takes it, without the batch axis.

    The pipeline runs on a synthetic sequence of the model's skeleton, in 3D, in 2D with scores or in 2D, so that a
    pipeline and a model that do not fit are found before any data is read.

    Args:
        model: a ``SingleRecognizer``.
        frames: of the synthetic sequence; None: ``INFERENCE.window_size``, or 100. They matter if no step of the
            pipeline samples frames; the persons (``INFERENCE.person_nums``, or 1) matter to a model that takes any
            number of them.

    Raises:
        ConfigError: with the pipeline's shapes and the shape that the model takes.
    """
    backbone, pipeline = model.backbone, build_pipeline(config, split)
    joints = backbone.layout.num_joints
    persons = backbone.num_person or config.value("INFERENCE.person_nums")
    frames = frames or config.get("INFERENCE", {}).get("window_size", PROBE_FRAMES)
    rng = np.random.default_rng(0)
    tried = []
    for channels, with_score in ((3, False), (2, True), (2, False)):
        keypoint = rng.uniform(0.5, 1.0, (persons, frames, joints, channels)).astype("float32")
        score = np.ones(keypoint.shape[:3], "float32") if with_score else None
        probe = Annotation(keypoint, score, name="a synthetic sequence", label=0, img_shape=(1080, 1920))
        try:
            shape = pipeline(probe, rng).shape
        except SkelError as error:
            tried.append(str(error))
            continue
        if backbone.takes(shape):
            return shape
        tried.append(f"{'2D with scores' if with_score else f'{channels}D'} gives {shape}")
    raise ConfigError(config.where(f"PIPELINE.{split}"),
                      f"does not fit the model, which takes {backbone.expects}: {'; '.join(dict.fromkeys(tried))}")


def check_first_sample(config, model, split, dataset):
    """Check that the pipeline turns the first sample of a split's data into what the model takes.

    ``input_shape`` tries synthetic samples of all kinds; only the data shows whether it is in 2D or 3D, and has scores.

    Raises:
        ConfigError: with both shapes.
    """
    sample, backbone = dataset[0], model.backbone
    shape = build_pipeline(config, split)(sample, np.random.default_rng(0)).shape
    if not backbone.takes(shape):
        where, channels = config.where(f"PIPELINE.{split}"), sample.keypoint.shape[3]
        scored = sample.keypoint_score is not None
        raise ConfigError(where, f"turns {sample.name!r}, which has {channels} coordinates"
                          f"{' and a separate score' if scored else ''}, into {shape}; the model takes "
                          f"{backbone.expects}", "GenSkeFeat makes the score the third coordinate"
                          if scored and channels == 2 else "Choose steps and in_channels for this data")
