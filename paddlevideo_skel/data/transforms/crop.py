"""Transforms of the image of 2D skeletons: crop it to the persons, resize, crop and mirror it.

Only the image's size is known: keypoints are moved and scaled like its pixels. Names and arguments are PaddleVideo's
(``…_V2``) and mmaction2's.
"""
import numpy as np

from ...skeleton import get_layout
from .base import (
    TRANSFORMS,
    check_bool,
    check_positive,
    check_real,
    get_coordinates,
    get_scores,
    need_joint,
    need_joints,
    sample_error,
)

CROP_ATTEMPTS = 10
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "area", "lanczos")


@TRANSFORMS.register
class PoseCompact:
    """Crop the image to a box around all persons of all frames (PoseC3D, Duan et al., CVPR 2022).

    Missing joints, whose coordinates are exactly 0, are ignored and stay 0.

    Args:
        padding: how much wider and higher than the persons the box is, as a share of their extent.
        threshold: pixels; if the persons' extent is smaller in x or y, the image is not cropped.
        hw_ratio: minimum and maximum ratio of the box's height to its width, or one number for both; None: any.
        allow_imgpad: whether the box may extend beyond the image.
    """

    def __init__(self, padding=0.25, threshold=10, hw_ratio=None, allow_imgpad=True):
        self.padding = check_real(padding, "padding", 0, 100)
        self.threshold = check_real(threshold, "threshold", 0, 1e6)
        self.hw_ratio = None if hw_ratio is None else check_bounds(as_pair(hw_ratio), "hw_ratio", 1e-3, 1e3)
        self.allow_imgpad = check_bool(allow_imgpad, "allow_imgpad")

    def __call__(self, annotation, rng):
        height, width = get_image_size(annotation, self)
        keypoint = get_coordinates(annotation)
        present = keypoint != 0
        low = np.where(present, keypoint, np.inf).min(axis=(0, 1, 2)).astype(np.float64)
        high = np.where(present, keypoint, -np.inf).max(axis=(0, 1, 2)).astype(np.float64)
        if (high - low < self.threshold).any():
            return annotation
        center, half = (low + high) / 2, (high - low) / 2 * (1 + self.padding)
        if self.hw_ratio is not None:
            half[1] = max(self.hw_ratio[0] * half[0], half[1])
            half[0] = max(half[1] / self.hw_ratio[1], half[0])
        low, high = center - half, center + half
        if not self.allow_imgpad:
            low, high = np.maximum(low, 0), np.minimum(high, (width, height))
        # Rounded towards zero, as in the published pipelines.
        low, high = np.trunc(low).astype(int), np.trunc(high).astype(int)
        if (high <= low).any():
            raise sample_error(annotation, self, f"the persons are outside the image of {height}x{width} pixels",
                        "Correct img_shape (height, width), or set allow_imgpad: True")
        result = annotation.copy()
        result.keypoint = np.where(present, keypoint - low.astype(np.float32), keypoint)
        result.img_shape = (int(high[1] - low[1]), int(high[0] - low[0]))
        return result


@TRANSFORMS.register
class Resize:
    """Resize the image.

    Args:
        scale: with ``keep_ratio``, a factor, or two numbers: the maxima of the longer and the shorter side, in any
            order; if one of them is -1, the shorter side becomes the other. Without ``keep_ratio``: (width, height).
        keep_ratio: keep the image's proportions.
        interpolation, lazy: options for pixels; checked, but without effect.
    """

    def __init__(self, scale, keep_ratio=True, interpolation="bilinear", lazy=False):
        self.keep_ratio = check_bool(keep_ratio, "keep_ratio")
        if interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation is {interpolation!r}, expected one of {', '.join(INTERPOLATIONS)}")
        not_lazy(lazy)
        if not isinstance(scale, (list, tuple)):
            if not self.keep_ratio:
                raise ValueError(f"scale is {scale!r}, expected (width, height) when keep_ratio is false")
            self.factor, self.size = check_real(scale, "scale", 1e-3, 1e3), None
            return
        if len(scale) != 2:
            raise ValueError(f"scale is {scale!r}, expected a factor or two integers")
        self.factor, self.size = None, tuple(np.inf if self.keep_ratio and side == -1 else check_positive(side, "scale")
                                             for side in scale)
        if min(self.size) == np.inf:
            raise ValueError(f"scale is {scale!r}, expected at most one -1")

    def __call__(self, annotation, rng):
        height, width = get_image_size(annotation, self)
        new_width, new_height = self._new_size(width, height)
        factors = np.array([new_width / width, new_height / height], np.float32)
        result = annotation.copy()
        result.keypoint = get_coordinates(annotation) * factors
        result.img_shape = (new_height, new_width)
        return result

    def _new_size(self, width, height):
        if not self.keep_ratio:
            return self.size
        factor = self.factor
        if factor is None:
            factor = min(max(self.size) / max(width, height), min(self.size) / min(width, height))
        return max(int(width * factor + 0.5), 1), max(int(height * factor + 0.5), 1)


@TRANSFORMS.register
class RandomResizedCrop_V2:
    """Crop a random box of the image; ``Resize`` usually follows.

    Args:
        area_range: minimum and maximum area of the box, as a share of the image's area.
        aspect_ratio_range: minimum and maximum ratio of the box's width to its height. If none of ten random boxes
            fits, the largest square in the middle is used.
        lazy: must be false for keypoints.
    """

    def __init__(self, area_range=(0.08, 1.0), aspect_ratio_range=(3 / 4, 4 / 3), lazy=False):
        self.area_range = check_bounds(area_range, "area_range", 1e-3, 1)
        self.aspect_ratio_range = check_bounds(aspect_ratio_range, "aspect_ratio_range", 1e-2, 1e2)
        not_lazy(lazy)

    def __call__(self, annotation, rng):
        height, width = get_image_size(annotation, self)
        return crop_to(annotation, *self._box(width, height, rng))

    def _box(self, width, height, rng):
        aspect = np.exp(rng.uniform(*np.log(self.aspect_ratio_range), CROP_ATTEMPTS))
        area = rng.uniform(*self.area_range, CROP_ATTEMPTS) * (width * height)
        sides = np.round(np.sqrt([area * aspect, area / aspect])).astype(int).clip(1)
        fits = np.flatnonzero((sides[0] <= width) & (sides[1] <= height))
        if not fits.size:
            side = min(width, height)
            return (width - side) // 2, (height - side) // 2, side, side
        box_width, box_height = map(int, sides[:, fits[0]])
        left = int(rng.integers(0, width - box_width + 1))
        return left, int(rng.integers(0, height - box_height + 1)), box_width, box_height


@TRANSFORMS.register
class CenterCrop_V2:
    """Crop the middle of the image; a smaller image gets a margin.

    Args:
        crop_size: (width, height), or one number for both.
        lazy: must be false for keypoints.
    """

    def __init__(self, crop_size, lazy=False):
        self.crop_size = tuple(check_positive(side, "crop_size") for side in as_pair(crop_size))
        if len(self.crop_size) != 2:
            raise ValueError(f"crop_size is {crop_size!r}, expected (width, height) or one number")
        not_lazy(lazy)

    def __call__(self, annotation, rng):
        height, width = get_image_size(annotation, self)
        box_width, box_height = self.crop_size
        return crop_to(annotation, (width - box_width) // 2, (height - box_height) // 2, box_width, box_height)


@TRANSFORMS.register
class Flip_V2:
    """Mirror the image horizontally with a probability: x becomes width - x, and left and right joints swap.

    An x of exactly 0, of a missing joint, stays 0.

    Args:
        flip_ratio: the probability.
        direction: must be ``horizontal``.
        flip_label_map: must be None; labels do not change.
        left_kp, right_kp: joints that swap, ``left_kp[i]`` with ``right_kp[i]``; None: those of ``layout``.
        lazy: must be false for keypoints.
        layout: the layout's name, or its description.
    """

    def __init__(self, flip_ratio=0.5, direction="horizontal", flip_label_map=None, left_kp=None, right_kp=None,
                 lazy=False, layout="coco"):
        self.flip_ratio = check_real(flip_ratio, "flip_ratio", 0, 1)
        if direction != "horizontal":
            raise ValueError(f"direction is {direction!r}, expected 'horizontal'")
        if flip_label_map is not None:
            raise ValueError("flip_label_map is not supported, expected None")
        layout = get_layout(layout, "Flip_V2.layout")
        self.layout = layout if left_kp is None else None
        self.pairs = mirror_pairs(left_kp, right_kp, layout)
        not_lazy(lazy)

    def __call__(self, annotation, rng):
        width = get_image_size(annotation, self)[1]
        if self.layout is not None:
            need_joints(annotation, self, self.layout.num_joints, f"the layout {self.layout.name!r}")
        need_joint(annotation, self, 0, *self.pairs.flat)
        if rng.random() >= self.flip_ratio:
            return annotation
        order = mirror_order(self.pairs, annotation.keypoint.shape[2])
        keypoint, score = get_coordinates(annotation)[:, :, order], get_scores(annotation)
        x = keypoint[..., 0]
        x[x != 0] = width - x[x != 0]
        result = annotation.copy()
        result.keypoint, result.keypoint_score = keypoint, None if score is None else score[:, :, order]
        return result


# The names of pyskl and mmaction2. PaddleVideo uses them for transforms of pixels, which this toolkit does not have.


@TRANSFORMS.register
class RandomResizedCrop(RandomResizedCrop_V2):
    __doc__ = RandomResizedCrop_V2.__doc__


@TRANSFORMS.register
class CenterCrop(CenterCrop_V2):
    __doc__ = CenterCrop_V2.__doc__


@TRANSFORMS.register
class Flip(Flip_V2):
    __doc__ = Flip_V2.__doc__


def get_image_size(annotation, step):
    """Height and width of a 2D sample's image; raises a ``DataError`` if they are unknown."""
    if annotation.keypoint.shape[3] != 2:
        raise sample_error(annotation, step, "needs 2D keypoints, but the sample has "
                           f"{annotation.keypoint.shape[3]} coordinates")
    if annotation.img_shape is None:
        raise sample_error(annotation, step, "the sample has no img_shape",
                           "Add img_shape (height, width), the image's size in pixels, to its annotation")
    return tuple(max(round(side), 1) for side in annotation.img_shape)


def crop_to(annotation, left, top, width, height):
    """A copy cropped to a box of the image; joints outside it stay, at their positions relative to the box."""
    result = annotation.copy()
    result.keypoint = get_coordinates(annotation) - np.array([left, top], np.float32)
    result.img_shape = (height, width)
    return result


def mirror_pairs(left, right, layout):
    """Joints that swap when mirrored, ``(pairs, 2)``, from two lists of the same length or, for None, the layout."""
    if (left is None) != (right is None):
        raise ValueError("expected both left_kp and right_kp, or neither")
    left, right = (layout.left, layout.right) if left is None else (left, right)
    return check_pairs(left, right, "left_kp", "right_kp")


def check_pairs(left, right, left_name, right_name):
    """``(pairs, 2)`` from two lists of integers from 0, each at most once; raises a ``ValueError``."""
    for numbers, name in ((left, left_name), (right, right_name)):
        if not isinstance(numbers, (list, tuple)) or not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError(f"{name} is {numbers!r}, expected a list of integers >= 0")
    if len(left) != len(right) or len({*left, *right}) != 2 * len(left):
        raise ValueError(f"{left_name} is {left!r}, {right_name} is {right!r}; expected lists of the same length, with "
                         "every number once")
    return np.array([left, right], int).T.reshape(-1, 2)


def mirror_order(pairs, count):
    """The joint that takes each one's place after mirroring, ``(count,)``."""
    order = np.arange(count)
    order[pairs] = pairs[:, ::-1]
    return order


def as_pair(value):
    """A list or tuple unchanged; any other value twice."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value, value)


def check_bounds(values, name, low, high):
    """``(lowest, highest)``, two numbers in ``low..high``, in order; raises a ``ValueError``."""
    if not isinstance(values, (list, tuple)) or len(values) != 2:
        raise ValueError(f"{name} is {values!r}, expected (lowest, highest)")
    lowest, highest = (check_real(value, name, low, high) for value in values)
    if lowest > highest:
        raise ValueError(f"{name} is {values!r}, expected (lowest, highest)")
    return lowest, highest


def not_lazy(lazy):
    """Raise a ``ValueError`` for mmaction2's ``lazy``, which is only for pixels."""
    if check_bool(lazy, "lazy"):
        raise ValueError("lazy is true, expected false for keypoints")
