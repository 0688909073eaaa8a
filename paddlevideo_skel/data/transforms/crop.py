"""Transforms of 2D skeletons within their picture: cut it to the persons, resize, crop and mirror it.

There is no picture, only its size: keypoints are moved and scaled as the pixels would be. Names and arguments are
PaddleVideo's (``…_V2``) and mmaction2's.
"""
import numpy as np

from ...skeleton import get_layout
from .base import TRANSFORMS, coordinates, need_joint, need_joints, positive, real, scores, truth, wrong

CROP_ATTEMPTS = 10
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "area", "lanczos")


@TRANSFORMS.register
class PoseCompact:
    """Cut the picture to a box around all persons of all frames (PoseC3D, Duan et al., CVPR 2022).

    Missing joints, with coordinates that are exactly 0, do not count and stay 0.

    Args:
        padding: how much wider and higher than the persons the box is, as a part of their extent.
        threshold: pixels; persons who are less wide or less high leave the picture as it is.
        hw_ratio: lowest and highest height of the box per width, or one number for both; None: any.
        allow_imgpad: whether the box may reach beyond the picture.
    """

    def __init__(self, padding=0.25, threshold=10, hw_ratio=None, allow_imgpad=True):
        self.padding, self.threshold = real(padding, "padding", 0, 100), real(threshold, "threshold", 0, 1e6)
        self.hw_ratio = None if hw_ratio is None else bounds(pair(hw_ratio), "hw_ratio", 1e-3, 1e3)
        self.allow_imgpad = truth(allow_imgpad, "allow_imgpad")

    def __call__(self, annotation, rng):
        height, width = picture(annotation, self)
        keypoint = coordinates(annotation)
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
        # Towards zero, as the published pipelines round.
        low, high = np.trunc(low).astype(int), np.trunc(high).astype(int)
        if (high <= low).any():
            raise wrong(annotation, self, f"its persons are outside of its picture of {height}x{width} pixels",
                        "Correct img_shape (height, width), or set allow_imgpad: True")
        result = annotation.copy()
        result.keypoint = np.where(present, keypoint - low.astype(np.float32), keypoint)
        result.img_shape = (int(high[1] - low[1]), int(high[0] - low[0]))
        return result


@TRANSFORMS.register
class Resize:
    """Resize the picture.

    Args:
        scale: with ``keep_ratio`` a factor, or two numbers: the largest size whose longer side is not above the
            larger of them nor its shorter side above the smaller; with -1 for one of them, the shorter side becomes
            the other. Without ``keep_ratio``: (width, height).
        keep_ratio: keep the picture's proportions.
        interpolation, lazy: of pixels, which there are none; checked, and of no effect.
    """

    def __init__(self, scale, keep_ratio=True, interpolation="bilinear", lazy=False):
        self.keep_ratio = truth(keep_ratio, "keep_ratio")
        if interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation is {interpolation!r}, expected one of {', '.join(INTERPOLATIONS)}")
        not_lazy(lazy)
        if not isinstance(scale, (list, tuple)):
            if not self.keep_ratio:
                raise ValueError(f"scale is {scale!r}, expected (width, height) when keep_ratio is false")
            self.factor, self.size = real(scale, "scale", 1e-3, 1e3), None
            return
        if len(scale) != 2:
            raise ValueError(f"scale is {scale!r}, expected a factor or two whole numbers")
        self.factor, self.size = None, tuple(np.inf if self.keep_ratio and side == -1 else positive(side, "scale")
                                             for side in scale)
        if min(self.size) == np.inf:
            raise ValueError(f"scale is {scale!r}, expected at most one -1")

    def __call__(self, annotation, rng):
        height, width = picture(annotation, self)
        new_width, new_height = self._new_size(width, height)
        factors = np.array([new_width / width, new_height / height], np.float32)
        result = annotation.copy()
        result.keypoint = coordinates(annotation) * factors
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
    """Crop a random box of the picture; ``Resize`` then gives it a size.

    Args:
        area_range: lowest and highest area of the box, as a part of the picture's.
        aspect_ratio_range: lowest and highest width of the box per height. Where ten boxes drawn from both ranges do
            not fit, the largest square in the middle is taken.
        lazy: false, the only way for keypoints.
    """

    def __init__(self, area_range=(0.08, 1.0), aspect_ratio_range=(3 / 4, 4 / 3), lazy=False):
        self.area_range = bounds(area_range, "area_range", 1e-3, 1)
        self.aspect_ratio_range = bounds(aspect_ratio_range, "aspect_ratio_range", 1e-2, 1e2)
        not_lazy(lazy)

    def __call__(self, annotation, rng):
        height, width = picture(annotation, self)
        return cropped(annotation, *self._box(width, height, rng))

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
    """Crop the middle of the picture; a smaller picture gets a margin.

    Args:
        crop_size: (width, height), or one number for both.
        lazy: false, the only way for keypoints.
    """

    def __init__(self, crop_size, lazy=False):
        self.crop_size = tuple(positive(side, "crop_size") for side in pair(crop_size))
        if len(self.crop_size) != 2:
            raise ValueError(f"crop_size is {crop_size!r}, expected (width, height) or one number")
        not_lazy(lazy)

    def __call__(self, annotation, rng):
        height, width = picture(annotation, self)
        box_width, box_height = self.crop_size
        return cropped(annotation, (width - box_width) // 2, (height - box_height) // 2, box_width, box_height)


@TRANSFORMS.register
class Flip_V2:
    """Mirror the picture left to right with a probability: x becomes width - x, and left and right joints swap.

    An x of exactly 0, a missing joint, stays 0.

    Args:
        flip_ratio: the probability.
        direction: ``horizontal``, the only one for persons.
        flip_label_map: None; labels do not change.
        left_kp, right_kp: joints that swap, ``left_kp[i]`` with ``right_kp[i]``; None: those of ``layout``.
        lazy: false, the only way for keypoints.
        layout: the layout's name, or its description.
    """

    def __init__(self, flip_ratio=0.5, direction="horizontal", flip_label_map=None, left_kp=None, right_kp=None,
                 lazy=False, layout="coco"):
        self.flip_ratio = real(flip_ratio, "flip_ratio", 0, 1)
        if direction != "horizontal":
            raise ValueError(f"direction is {direction!r}, only 'horizontal' is known")
        if flip_label_map is not None:
            raise ValueError("flip_label_map is not supported: a label does not depend on the picture's side here")
        layout = get_layout(layout, "Flip_V2.layout")
        self.layout = layout if left_kp is None else None
        self.pairs = mirror_pairs(left_kp, right_kp, layout)
        not_lazy(lazy)

    def __call__(self, annotation, rng):
        width = picture(annotation, self)[1]
        if self.layout is not None:
            need_joints(annotation, self, self.layout.num_joints, f"the layout {self.layout.name!r}")
        need_joint(annotation, self, 0, *self.pairs.flat)
        if rng.random() >= self.flip_ratio:
            return annotation
        order = mirror_order(self.pairs, annotation.keypoint.shape[2])
        keypoint, score = coordinates(annotation)[:, :, order], scores(annotation)
        x = keypoint[..., 0]
        x[x != 0] = width - x[x != 0]
        result = annotation.copy()
        result.keypoint, result.keypoint_score = keypoint, None if score is None else score[:, :, order]
        return result


# pyskl's and mmaction2's names. PaddleVideo has them for pictures of pixels, which this toolkit does not read.


@TRANSFORMS.register
class RandomResizedCrop(RandomResizedCrop_V2):
    __doc__ = RandomResizedCrop_V2.__doc__


@TRANSFORMS.register
class CenterCrop(CenterCrop_V2):
    __doc__ = CenterCrop_V2.__doc__


@TRANSFORMS.register
class Flip(Flip_V2):
    __doc__ = Flip_V2.__doc__


def picture(annotation, step):
    """Height and width of a 2D sample's picture; else a ``DataError``."""
    if annotation.keypoint.shape[3] != 2:
        raise wrong(annotation, step, f"is for 2D keypoints, the sample has {annotation.keypoint.shape[3]} coordinates")
    if annotation.img_shape is None:
        raise wrong(annotation, step, "it has no img_shape", "Add img_shape (height, width), the picture's size in "
                    "pixels, to its annotation")
    return tuple(max(round(side), 1) for side in annotation.img_shape)


def cropped(annotation, left, top, width, height):
    """A copy whose picture is a box of the old one; joints beyond it keep their place relative to it."""
    result = annotation.copy()
    result.keypoint = coordinates(annotation) - np.array([left, top], np.float32)
    result.img_shape = (height, width)
    return result


def mirror_pairs(left, right, layout):
    """Joints that swap when mirrored, ``(pairs, 2)``: two lists of the same length, or the layout's for None."""
    if (left is None) != (right is None):
        raise ValueError("left_kp and right_kp belong together: give both, or neither")
    left, right = (layout.left, layout.right) if left is None else (left, right)
    return checked_pairs(left, right, "left_kp", "right_kp")


def checked_pairs(left, right, left_name, right_name):
    """``(pairs, 2)`` of two lists of numbers from 0, each number at most once; else a ``ValueError``."""
    for numbers, name in ((left, left_name), (right, right_name)):
        if not isinstance(numbers, (list, tuple)) or not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError(f"{name} is {numbers!r}, expected a list of numbers from 0")
    if len(left) != len(right) or len({*left, *right}) != 2 * len(left):
        raise ValueError(f"{left_name} is {left!r}, {right_name} is {right!r}; expected lists of the same length, and "
                         "every number once")
    return np.array([left, right], int).T.reshape(-1, 2)


def mirror_order(pairs, count):
    """Which of ``count`` joints stands in each one's place after mirroring."""
    order = np.arange(count)
    order[pairs] = pairs[:, ::-1]
    return order


def pair(value):
    """A list or tuple as it is; anything else twice."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value, value)


def bounds(values, name, low, high):
    """``(lowest, highest)`` if they are two numbers within ``low..high`` in order; else a ``ValueError``."""
    if not isinstance(values, (list, tuple)) or len(values) != 2:
        raise ValueError(f"{name} is {values!r}, expected (lowest, highest)")
    lowest, highest = (real(value, name, low, high) for value in values)
    if lowest > highest:
        raise ValueError(f"{name} is {values!r}, expected (lowest, highest)")
    return lowest, highest


def not_lazy(lazy):
    """Refuse mmaction2's ``lazy``, which only pictures of pixels have."""
    if truth(lazy, "lazy"):
        raise ValueError("lazy is true, which only works on pictures, not on keypoints")
