"""Made-up samples and transforms built as from a config, for the tests of transforms."""
import numpy as np

from paddlevideo_skel.data.annotation import Annotation
from paddlevideo_skel.data.transforms import TRANSFORMS


def make(name, **arguments):
    return TRANSFORMS.build(name, arguments, "PIPELINE")


def rng(seed=0):
    return np.random.default_rng(seed)


def sample(persons=2, frames=12, joints=25, channels=3, score=False, seed=0, dtype="float32", **fields):
    numbers = rng(seed)
    keypoint = numbers.normal(size=(persons, frames, joints, channels)).astype(dtype)
    scores = numbers.random((persons, frames, joints)).astype(dtype) if score else None
    return Annotation(keypoint, scores, name="the sample", **fields)
