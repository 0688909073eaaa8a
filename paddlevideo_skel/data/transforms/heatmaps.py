"""Heatmaps of joints and limbs: the network's array of PoseC3D (Duan et al., CVPR 2022).

A joint's map is a Gaussian around it, a limb's one around the line between its ends, as high as the lower of the two
scores. Only a few pixels of a map are not zero: those pixels of all maps are listed, computed in one go, and written
into an array of zeros.
"""
import numpy as np

from ...errors import ConfigError
from ...skeleton import get_layout
from .base import TRANSFORMS, coordinates, need_joint, need_joints, real, scores, truth, wrong
from .crop import checked_pairs, mirror_order, mirror_pairs, picture

# The order of limbs in published checkpoints.
COCO_LIMBS = ((0, 1), (0, 2), (1, 3), (2, 4), (0, 5), (5, 7), (7, 9), (0, 6), (6, 8), (8, 10), (5, 11), (11, 13),
              (13, 15), (6, 12), (12, 14), (14, 16), (11, 12))
MIN_SCORE = 1e-4  # what is less certain leaves no trace
REACH = 3  # sigmas
CHUNK = 1 << 16  # pixels at once: their coordinates and distances stay in the processor's cache
FAR = 1e5  # pixels; what lies farther away is taken to lie there, where single precision still tells its direction
MAX_NUMBERS = 1 << 30  # of an array


@TRANSFORMS.register
class GeneratePoseTarget:
    """Make the network's array of heatmaps ``(num_clips, C, T, H, W)``: C joints or limbs, or joints, then limbs.

    Where persons overlap the larger value counts. As in mmaction2 1.2, with ``double`` mirrored heatmaps follow, left
    and right swapped: column w of a map becomes column W - 1 - w.

    Args:
        sigma: of the Gaussians, pixels; they are cut off at 3 sigma.
        use_score: a map is as high as the joint's score; otherwise, or without scores, 1.
        with_kp, with_limb: maps of joints, of limbs.
        skeletons: limbs as pairs of joints. None: the layout's bones, for ``coco`` in the order of the published
            checkpoints.
        double: twice the clips, the second half mirrored.
        left_kp, right_kp: joints that swap when mirrored, ``left_kp[i]`` with ``right_kp[i]``; None: the layout's.
        left_limb, right_limb: the same of limbs, by their place in ``skeletons``; None: follows from the joints.
        scaling: of picture and keypoints before drawing.
        layout: the layout's name, or its description.
    """

    def __init__(self, sigma=0.6, use_score=True, with_kp=True, with_limb=False, skeletons=None, double=False,
                 left_kp=None, right_kp=None, left_limb=None, right_limb=None, scaling=1.0, layout="coco"):
        self.sigma, self.scaling = real(sigma, "sigma", 0.01, 1000), real(scaling, "scaling", 0.01, 100)
        self.use_score, self.double = truth(use_score, "use_score"), truth(double, "double")
        self.with_kp, self.with_limb = truth(with_kp, "with_kp"), truth(with_limb, "with_limb")
        if not with_kp and not with_limb:
            raise ValueError("with_kp and with_limb are both false: there would be no heatmap")
        layout = get_layout(layout, "GeneratePoseTarget.layout")
        # Where nothing is taken from the layout, samples may have other joints.
        taken = [self.double and left_kp is None, self.with_limb and skeletons is None]
        self.layout = layout if any(taken) else None
        self.pairs = mirror_pairs(left_kp, right_kp, layout)
        if skeletons is None:
            skeletons = COCO_LIMBS if layout == get_layout("coco") else layout.bones
        self.limbs = limb_pairs(skeletons) if self.with_limb else np.empty((0, 2), int)
        mirrors = self.with_limb and self.double
        self.limb_order = mirrored_limbs(self.limbs, self.pairs, left_limb, right_limb) if mirrors else (
            np.arange(len(self.limbs)))

    def __call__(self, annotation, rng):
        self._check(annotation)
        size = tuple(max(int(side * self.scaling + 0.5), 1) for side in picture(annotation, self))
        keypoint, score = coordinates(annotation) * np.float32(self.scaling), scores(annotation)
        if score is None or not self.use_score:
            score = np.ones(keypoint.shape[:3], np.float32)
        ends, mirrored = self._channels(keypoint.shape[2])
        array = self._zeros(annotation, len(ends), keypoint.shape[1], size)
        places = map_numbers(array.shape, annotation.num_clips, mirrored if self.double else None)
        for person, person_score in zip(keypoint, score, strict=True):
            draw(array.reshape(-1), places, size, self.sigma, *segments(person, person_score, ends))
        result = annotation.copy()
        result.array, result.num_clips = array, len(array)
        return result

    def _check(self, annotation):
        if annotation.frame_inds is not None:
            raise ConfigError("PIPELINE: GeneratePoseTarget", "draws every frame, but UniformSampleFrames has chosen "
                              "some by number", "Put PoseDecode before GeneratePoseTarget")
        if self.layout is not None:
            need_joints(annotation, self, self.layout.num_joints, f"the layout {self.layout.name!r}")
        need_joint(annotation, self, 0, *self.limbs.flat, *(self.pairs.flat if self.double else ()))

    def _channels(self, joints):
        """Both ends of what C channels show ``(C, 2)``, and the channels in their places when mirrored ``(C,)``."""
        shown = joints if self.with_kp else 0
        ends = np.concatenate([np.arange(shown)[:, None].repeat(2, axis=1), self.limbs])
        joint_order = mirror_order(self.pairs, joints)[:shown] if self.double else np.arange(shown)
        return ends, np.concatenate([joint_order, self.limb_order + shown])

    def _zeros(self, annotation, channels, frames, size):
        clips = annotation.num_clips
        if frames % clips:
            raise wrong(annotation, self, f"{frames} frames cannot be {clips} clips", "Is PoseDecode missing?")
        shape = (clips * (2 if self.double else 1), channels, frames // clips, *size)
        if np.prod(shape, dtype=float) > MAX_NUMBERS:
            raise wrong(annotation, self, f"its heatmaps would be {shape}, {np.prod(shape, dtype=float) * 4e-9:.0f} GB",
                        "Put Resize, or a crop to a smaller size, before it")
        return np.zeros(shape, np.float32)


@TRANSFORMS.register
class FormatShape:
    """The last step on heatmaps, which here already have their form: ``(num_clips, C, T, H, W)``.

    Args:
        input_format: ``NCTHW`` or ``NCTHW_Heatmap``, both the same here.
        collapse: drop the first axis, where there is one clip.
    """

    def __init__(self, input_format, collapse=False):
        if input_format not in ("NCTHW", "NCTHW_Heatmap"):
            raise ValueError(f"input_format is {input_format!r}, expected 'NCTHW' or 'NCTHW_Heatmap'")
        self.collapse = truth(collapse, "collapse")

    def __call__(self, annotation, rng):
        if annotation.array is None:
            raise ConfigError("PIPELINE: FormatShape", "there are no heatmaps to form",
                              "Put GeneratePoseTarget before it; skeletons for graph networks need FormatGCNInput")
        if self.collapse and annotation.num_clips != 1:
            raise wrong(annotation, self, f"collapse needs one clip, there are {annotation.num_clips}")
        result = annotation.copy()
        result.array = annotation.array[0 if self.collapse else slice(None)]
        return result


def limb_pairs(skeletons):
    """Limbs ``(L, 2)`` from pairs of joints; else a ``ValueError``."""
    pairs = [tuple(limb) if isinstance(limb, (list, tuple)) else limb for limb in skeletons] if isinstance(
        skeletons, (list, tuple)) else []
    if not pairs or not all(isinstance(limb, tuple) and len(limb) == 2 and limb[0] != limb[1] and
                            all(type(joint) is int and joint >= 0 for joint in limb) for limb in pairs):
        raise ValueError(f"skeletons is {skeletons!r}, expected pairs of joints")
    return np.array(pairs)


def mirrored_limbs(limbs, pairs, left, right):
    """Which limb stands in each one's place after mirroring ``(L,)``; else a ``ValueError``.

    Args:
        limbs: ``(L, 2)``. pairs: joints that swap ``(P, 2)``.
        left, right: limbs that swap, by their number; None: those whose ends swap.
    """
    if (left is None) != (right is None):
        raise ValueError("left_limb and right_limb belong together: give both, or neither")
    if left is not None:
        given = checked_pairs(left, right, "left_limb", "right_limb")
        if given.max(initial=0) >= len(limbs):
            raise ValueError(f"left_limb or right_limb names limb {given.max()}, there are {len(limbs)}")
        return mirror_order(given, len(limbs))
    order = mirror_order(pairs, max(limbs.max(), pairs.max(initial=0)) + 1)
    place = {frozenset(limb): i for i, limb in enumerate(limbs.tolist())}
    lonely = [limb for limb in limbs.tolist() if frozenset(order[limb].tolist()) not in place]
    if lonely:
        raise ValueError(f"the limb {lonely[0]} has no counterpart on the other side; give left_limb and right_limb")
    return np.array([place[frozenset(order[limb].tolist())] for limb in limbs])


def map_numbers(shape, clips, mirrored):
    """Where in an array ``(clips or 2·clips, C, T, H, W)`` the map of a frame and channel lies, counted in maps.

    Args:
        mirrored: the channel that each one becomes when mirrored; None: there are no mirrored clips.

    Returns:
        ``(clips·T, C)`` for the maps as they are, and for their mirrored copies, or None.
    """
    _, channels, frames = shape[:3]
    numbers = np.arange(np.prod(shape[:3])).reshape(-1, channels, frames).transpose(0, 2, 1).reshape(-1, channels)
    own = numbers[:clips * frames]
    return own, None if mirrored is None else numbers[clips * frames:, mirrored]


def segments(keypoint, score, ends):
    """What one person's maps show: start and end ``(T, C, 2)`` and height ``(T, C)``; a joint starts where it ends.

    As in mmaction2, a limb under one pixel counts as its first joint, and the least score is asked of both ends.
    """
    start, end = (keypoint[:, joint].astype(np.float64).clip(-FAR, FAR) for joint in ends.T)
    first, second = (score[:, joint] for joint in ends.T)
    short = np.square(end - start).sum(axis=-1) < 1
    height = np.where(short, first, np.minimum(first, second))
    return start, np.where(short[..., None], start, end), np.where(np.minimum(first, second) < MIN_SCORE, 0, height)


def draw(flat, places, size, sigma, start, end, height):
    """Draw Gaussians around segments into maps, where they exceed what is there.

    Args:
        flat: all maps' pixels, changed in place.
        places: see ``map_numbers``; no two segments may share a map.
        size: height and width of a map.
        start, end, height: of the segments, ``(T, C, 2)`` x and y, and ``(T, C)``.
    """
    corner = np.array(size[::-1])
    # Towards zero, as in mmaction2: a joint just left of the picture still marks its first column.
    low = np.trunc(np.minimum(start, end) - REACH * sigma).clip(0, corner).astype(np.int32)
    high = (np.trunc(np.maximum(start, end) + REACH * sigma) + 1).clip(0, corner).astype(np.int32)
    pixels = np.where(height > 0, (high - low).clip(0).prod(axis=-1), 0)
    shown = pixels > 0
    own, mirrored = (None if numbers is None else numbers[shown] * (size[0] * size[1]) for numbers in places)
    start, end, height, low, high, pixels = (a[shown] for a in (start, end, height, low, high, pixels))
    for part in chunks(pixels):
        owner, x, y = listed(low[part], high[part], pixels[part])
        value = gaussian(x, y, start[part], end[part], owner, sigma) * height[part].take(owner)
        row = y * size[1]
        raise_to(flat, own[part].take(owner) + (row + x), value)
        if mirrored is not None:
            raise_to(flat, mirrored[part].take(owner) + (row + (size[1] - 1 - x)), value)


def chunks(pixels):
    """Slices of segments that have about ``CHUNK`` pixels together."""
    total = np.cumsum(pixels)
    cuts = np.searchsorted(total, np.arange(0, total[-1] if total.size else 0, CHUNK))
    return [slice(begin, end) for begin, end in zip(cuts, [*cuts[1:], len(pixels)])]


def listed(low, high, pixels):
    """All pixels of boxes: the box each belongs to, its x and y. ``low``, ``high``: ``(N, 2)`` x and y; high is out."""
    owner = np.repeat(np.arange(len(pixels)), pixels)
    first = (np.cumsum(pixels) - pixels).astype(np.int32)
    number, width = np.arange(len(owner), dtype=np.int32) - first.take(owner), (high - low)[:, 0].take(owner)
    row = number // width
    return owner, number - row * width + low[:, 0].take(owner), row + low[:, 1].take(owner)


def gaussian(x, y, start, end, owner, sigma):
    """exp(-d²/2σ²) with the distance d of pixels ``(P,)`` from their owners' segments ``(N, 2)``, float32."""
    from_x, from_y = (np.subtract(pixel, origin.take(owner), dtype=np.float32)
                      for pixel, origin in zip((x, y), start.astype(np.float32).T))
    along = end - start
    if along.any():  # else joints
        per_length = along / np.maximum(np.square(along).sum(axis=-1, keepdims=True), 1)
        (along_x, along_y), (per_x, per_y) = along.astype(np.float32).T, per_length.astype(np.float32).T
        share = from_x * per_x.take(owner)
        share += from_y * per_y.take(owner)
        share.clip(0, 1, out=share)
        from_x -= share * along_x.take(owner)
        from_y -= share * along_y.take(owner)
    from_x *= from_x
    from_y *= from_y
    from_x += from_y
    from_x *= -0.5 / sigma**2
    return np.exp(from_x, out=from_x)


def raise_to(flat, at, value):
    """Raise ``flat[at]`` to ``value`` where it is lower; no place may stand twice in ``at``."""
    flat[at] = np.maximum(flat.take(at), value)
