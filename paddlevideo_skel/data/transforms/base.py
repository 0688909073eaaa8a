"""What the transforms share: their registry, and the few things that several of them do."""
import numbers

import numpy as np

from ...errors import ConfigError, DataError
from ...registry import Registry

TRANSFORMS = Registry("transform")


def positive(value, name):
    """``value`` if it is a whole number from 1; else a ``ValueError`` naming the argument."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{name} is {value!r}, expected a positive whole number")
    return int(value)


def truth(value, name):
    """``value`` if it is a boolean; else a ``ValueError``: a text such as 'no' would count as true."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} is {value!r}, expected true or false")
    return bool(value)


def real(value, name, low, high):
    """``value`` as a float if it is a number in low..high; else a ``ValueError``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}, expected a number from {low} to {high}")
    return float(value)


def wrong(annotation, step, problem, hint=""):
    """The ``DataError`` of a transform that cannot take a sample."""
    return DataError(annotation.name or "sample", f"{type(step).__name__}: {problem}", hint)


def coordinates(annotation):
    """The keypoints ``(M, T, V, C)`` as float32: the file's type, often half precision, is only for storing."""
    return np.asarray(annotation.keypoint, np.float32)


def scores(annotation):
    """The scores ``(M, T, V)`` as float32, or None."""
    score = annotation.keypoint_score
    return None if score is None else np.asarray(score, np.float32)


def need_joints(annotation, step, count, whose):
    """Refuse a sample with another number of joints than the layout ``whose`` has."""
    joints = annotation.keypoint.shape[2]
    if joints != count:
        raise wrong(annotation, step, f"it has {joints} joints, {whose} has {count}",
                    "Name the layout that the data has; your own can be described under LAYOUT")


def need_joint(annotation, step, *joints):
    """Refuse a sample that lacks one of ``joints``."""
    count = annotation.keypoint.shape[2]
    if max(joints) >= count:
        raise wrong(annotation, step, f"it needs joint {max(joints)}, the sample has joints 0..{count - 1}")


def need_all_frames(annotation, step):
    """Refuse to change frames that a sampler has chosen by number but ``PoseDecode`` has not yet taken."""
    if annotation.frame_inds is not None:
        raise ConfigError(f"PIPELINE: {type(step).__name__}", "changes the frames after UniformSampleFrames has "
                          "chosen some by number", f"Put {type(step).__name__} before UniformSampleFrames")


def with_frames(annotation, change):
    """A copy with ``change(array)`` in the place of keypoints ``(M, T, V, C)`` and scores ``(M, T, V)``."""
    result, score = annotation.copy(), scores(annotation)
    result.keypoint = change(coordinates(annotation))
    result.keypoint_score = None if score is None else change(score)
    return result


def zero_padded(array, count, axis, begin=0):
    """``array`` within zeros, ``count`` long along ``axis``, starting at ``begin``; itself where it has this length."""
    if array.shape[axis] == count:
        return array
    widths = [(0, 0)] * array.ndim
    widths[axis] = (begin, count - begin - array.shape[axis])
    return np.pad(array, widths)
