"""Shared by the transforms: their registry, checks of arguments and samples, and a few operations."""
import numbers

import numpy as np

from ...errors import ConfigError, DataError
from ...registry import Registry

TRANSFORMS = Registry("transform")


def check_positive(value, name):
    """``value`` as an integer from 1; raises a ``ValueError`` naming the argument."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{name} is {value!r}, expected a positive integer")
    return int(value)


def check_bool(value, name):
    """``value`` as a boolean; raises a ``ValueError``: a string such as 'no' would count as true."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} is {value!r}, expected true or false")
    return bool(value)


def check_real(value, name, low, high):
    """``value`` as a float in low..high; raises a ``ValueError``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}, expected a number from {low} to {high}")
    return float(value)


def sample_error(annotation, step, problem, hint=""):
    """The ``DataError`` of a transform that does not fit a sample."""
    return DataError(annotation.name or "sample", f"{type(step).__name__}: {problem}", hint)


def get_coordinates(annotation):
    """The keypoints ``(M, T, V, C)`` as float32; the file's type, often half precision, is only for storage."""
    return np.asarray(annotation.keypoint, np.float32)


def get_scores(annotation):
    """The scores ``(M, T, V)`` as float32, or None."""
    score = annotation.keypoint_score
    return None if score is None else np.asarray(score, np.float32)


def need_joints(annotation, step, count, whose):
    """Raise a ``DataError`` if a sample does not have ``count`` joints; ``whose`` describes the layout in the
    message.
    """
    joints = annotation.keypoint.shape[2]
    if joints != count:
        raise sample_error(annotation, step, f"the sample has {joints} joints, {whose} has {count}",
                    "Set the layout of the data; describe your own under LAYOUT")


def need_joint(annotation, step, *joints):
    """Raise a ``DataError`` if a sample lacks one of ``joints``."""
    count = annotation.keypoint.shape[2]
    if max(joints) >= count:
        raise sample_error(annotation, step, f"needs joint {max(joints)}, but the sample has joints 0..{count - 1}")


def need_all_frames(annotation, step):
    """Raise a ``ConfigError`` for a step that changes frames between frame selection and ``PoseDecode``."""
    if annotation.frame_inds is not None:
        raise ConfigError(f"PIPELINE: {type(step).__name__}", "changes the frames after UniformSampleFrames has "
                          "selected some by index", f"Put {type(step).__name__} before UniformSampleFrames")


def with_frames(annotation, change):
    """A copy with ``change(array)`` instead of keypoints ``(M, T, V, C)`` and scores ``(M, T, V)``."""
    result, score = annotation.copy(), get_scores(annotation)
    result.keypoint = change(get_coordinates(annotation))
    result.keypoint_score = None if score is None else change(score)
    return result


def zero_padded(array, count, axis, begin=0):
    """``array`` padded with zeros to the length ``count`` along ``axis``, starting at ``begin``."""
    if array.shape[axis] == count:
        return array
    widths = [(0, 0)] * array.ndim
    widths[axis] = (begin, count - begin - array.shape[axis])
    return np.pad(array, widths)
