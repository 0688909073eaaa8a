"""Augmentations of ST-GCN's Kinetics recipe: a random stretch of the sequence, seen by a camera that moves."""
import numpy as np

from .base import TRANSFORMS, coordinates, need_all_frames, positive, real, truth, with_frames, wrong, zero_padded


@TRANSFORMS.register
class RandomChoose:
    """``window_size`` successive frames from a random start (st-gcn's ``random_choose``).

    As there, empty frames at the end of a sequence count like any other.

    Args:
        window_size: frames.
        random_pad: a shorter sequence gets a random place among zeros; otherwise it stands at the start.
    """

    def __init__(self, window_size, random_pad=True):
        self.window_size, self.random_pad = positive(window_size, "window_size"), truth(random_pad, "random_pad")

    def __call__(self, annotation, rng):
        need_all_frames(annotation, self)
        window, spare = self.window_size, annotation.total_frames - self.window_size
        if spare >= 0:
            begin = int(rng.integers(0, spare + 1))
            return with_frames(annotation, lambda array: array[:, begin:begin + window])
        begin = int(rng.integers(0, 1 - spare)) if self.random_pad else 0
        return with_frames(annotation, lambda array: zero_padded(array, window, 1, begin))


@TRANSFORMS.register
class RandomMove:
    """Turn, scale and shift x and y as if the camera moved (ST-GCN's paper, section 4; st-gcn's ``random_move``).

    The sequence is cut into equal stretches. At each cut an angle, a scale and a shift are drawn; between two cuts
    they change evenly. All persons move alike, and with them, as in st-gcn, joints that are missing (0, 0). Further
    coordinates (z, or a score kept among the coordinates) stay as they are.

    Args:
        angle_candidate: degrees, counter-clockwise where y points up.
        scale_candidate: factors.
        transform_candidate: shifts in x and in y, in units of the coordinates.
        move_time_candidate: numbers of stretches.
    """

    def __init__(self, angle_candidate=(-10, -5, 0, 5, 10), scale_candidate=(0.9, 1.0, 1.1),
                 transform_candidate=(-0.2, -0.1, 0.0, 0.1, 0.2), move_time_candidate=(1,)):
        self.angles = np.deg2rad(candidates(angle_candidate, "angle_candidate", 360))
        self.scales = candidates(scale_candidate, "scale_candidate", 100)
        self.shifts = candidates(transform_candidate, "transform_candidate", 1e6)
        candidates(move_time_candidate, "move_time_candidate", 1e6)
        self.stretches = [positive(number, "move_time_candidate") for number in move_time_candidate]

    def __call__(self, annotation, rng):
        keypoint = coordinates(annotation)
        if keypoint.shape[3] < 2:
            raise wrong(annotation, self, f"moves x and y, the sample has {keypoint.shape[3]} coordinate")
        stretches = int(rng.choice(self.stretches))
        cuts = np.round(np.arange(stretches + 1) * keypoint.shape[1] / stretches).astype(np.int64)
        drawn = [rng.choice(values, stretches + 1) for values in (self.angles, self.scales, self.shifts, self.shifts)]
        angle, scale, x, y = between(cuts, np.array(drawn))
        cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
        turn = np.stack([cos, -sin, sin, cos], axis=-1).reshape(-1, 2, 2).astype(np.float32)
        shift = np.stack([x, y], axis=-1).astype(np.float32)[:, None]
        moved = keypoint[..., :2] @ turn.transpose(0, 2, 1) + shift
        result = annotation.copy()
        result.keypoint = np.concatenate([moved, keypoint[..., 2:]], axis=-1)
        return result


def candidates(values, name, limit):
    """``values`` as an array if they are a list of numbers in -limit..limit; else a ``ValueError``."""
    if not isinstance(values, (list, tuple)) or not values:
        raise ValueError(f"{name} is {values!r}, expected a list of numbers")
    return np.array([real(value, name, -limit, limit) for value in values])


def between(cuts, values):
    """Values for every frame ``(…, T)``: from ``values[i]`` at ``cuts[i]`` evenly to ``values[i + 1]`` before the next.

    Args:
        cuts: K + 1 frame numbers from 0 to T. values: ``(…, K + 1)``.
    """
    frame = np.arange(cuts[-1])
    part = np.searchsorted(cuts, frame, side="right") - 1
    begin, end = cuts[part], cuts[part + 1]
    share = (frame - begin) / np.maximum(end - begin - 1, 1)
    return values[..., part] + share * (values[..., part + 1] - values[..., part])
