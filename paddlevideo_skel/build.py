"""A recipe: a config whose parts were checked together, before anything long begins.

Training, testing and export all start here. Needs paddle (for the model); prediction does not come this way.
"""
import numpy as np

from .data.annotation import Annotation
from .data.datasets import DATASETS
from .data.pipeline import Pipeline, check_pipeline
from .errors import ConfigError, SkelError
from .models import build_model, check_model

PROBE_FRAMES = 100


def check_recipe(config, splits):
    """Check the names and arguments of the model, the data sets and the pipelines that will be used."""
    check_model(config.section("MODEL"), config.where("MODEL"))
    for split in splits:
        where = config.where(f"DATASET.{split}")
        arguments = dict(config.section(f"DATASET.{split}"))
        DATASETS.check(arguments.pop("format", None), arguments, where, given=("bad",))
        check_pipeline(config.section(f"PIPELINE.{split}"), config.where(f"PIPELINE.{split}"))


def build_recognizer(config):
    """The recognizer of a config."""
    return build_model(config.section("MODEL"), config.where("MODEL"))


def build_pipeline(config, split):
    """The pipeline of a split."""
    return Pipeline(config.section(f"PIPELINE.{split}"), config.where(f"PIPELINE.{split}"))


def input_shape(config, model, split="test", frames=None):
    """Shape of one sample as the pipeline of ``split`` makes it and ``model`` takes it, without the batch axis.

    The pipeline is run on a made-up sequence of the model's skeleton, in 2D with scores, 3D or 2D, so that a
    pipeline and a model that do not fit are found before any data is read.

    Args:
        frames: of the made-up sequence; None: ``INFERENCE.window_size``, or else 100. They matter where no step of the
            pipeline chooses frames, as do the persons (``INFERENCE.person_nums``, or else 1) to a model that takes any
            number of them.

    Raises:
        ConfigError: with the shapes that came out and the shape that the model takes.
    """
    backbone, pipeline = model.backbone, build_pipeline(config, split)
    inference, joints = config.get("INFERENCE", {}), backbone.layout.num_joints
    persons = backbone.num_person or inference.get("person_nums", 1)
    frames = frames or inference.get("window_size", PROBE_FRAMES)
    rng = np.random.default_rng(0)
    tried = []
    for channels, with_score in ((3, False), (2, True), (2, False)):
        keypoint = rng.uniform(0.5, 1.0, (persons, frames, joints, channels)).astype("float32")
        score = np.ones(keypoint.shape[:3], "float32") if with_score else None
        probe = Annotation(keypoint, score, name="a made-up sequence", label=0, img_shape=(1080, 1920))
        try:
            shape = pipeline(probe, rng).shape
        except SkelError as error:
            tried.append(str(error))
            continue
        if backbone.takes(shape):
            return shape
        tried.append(f"{'2D with scores' if with_score else f'{channels}D'} gives {shape}")
    raise ConfigError(config.where(f"PIPELINE.{split}"),
                      f"does not make what the model takes, {backbone.expects}: {'; '.join(dict.fromkeys(tried))}")


def check_fit(config, model, split, dataset):
    """See that the first sample of a split's data becomes what the model takes.

    ``input_shape`` knows only made-up samples: whether the data is in 2D or 3D, and has scores, the data tells.

    Raises:
        ConfigError: with both shapes.
    """
    sample, backbone = dataset[0], model.backbone
    shape = build_pipeline(config, split)(sample, np.random.default_rng(0)).shape
    if not backbone.takes(shape):
        where, channels = config.where(f"PIPELINE.{split}"), sample.keypoint.shape[3]
        apart = sample.keypoint_score is not None
        raise ConfigError(where, f"makes {shape} of {sample.name!r}, which has {channels} coordinates"
                          f"{' and a score apart' if apart else ''}; the model takes {backbone.expects}",
                          "GenSkeFeat makes the score the third coordinate" if apart and channels == 2 else
                          "Choose steps and in_channels for this data")
