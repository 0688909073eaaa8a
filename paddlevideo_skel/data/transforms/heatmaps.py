"""Heatmaps of joints and limbs: the input of PoseC3D (Duan et al., CVPR 2022).

The map of a joint is a Gaussian around it, that of a limb a Gaussian around the line between its ends, as high as the
lower of their scores. Few pixels of a map are nonzero: those of all maps are listed, computed together and written
into an array of zeros.
"""
import numpy as np

from ...errors import ConfigError
from ...skeleton import get_layout
from .base import TRANSFORMS, check_bool, check_real, get_coordinates, get_scores, need_joint, need_joints, sample_error
from .crop import check_pairs, get_image_size, mirror_order, mirror_pairs

# In the order used by published checkpoints.
COCO_LIMBS = ((0, 1), (0, 2), (1, 3), (2, 4), (0, 5), (5, 7), (7, 9), (0, 6), (6, 8), (8, 10), (5, 11), (11, 13),
              (13, 15), (6, 12), (12, 14), (14, 16), (11, 12))
MIN_HEATMAP_SCORE = 1e-4  # joints and limbs with a lower score are not drawn
CUTOFF = 3  # in sigmas
PIXELS_PER_CHUNK = 1 << 16  # so that coordinates and distances fit into the processor's cache
MAX_OFFSET = 1e5  # pixels; coordinates are clipped to it, where float32 still has their direction
MAX_HEATMAP_VALUES = 1 << 30  # of one array


@TRANSFORMS.register
class GeneratePoseTarget:
    """Make heatmaps ``(num_clips, C, T, H, W)`` of C joints or limbs, or of joints, then limbs.

    Where persons overlap, the larger value is kept. With ``double``, mirrored heatmaps follow, as in mmaction2 1.2:
    left and right are swapped, and column w of a map becomes column W - 1 - w.

    Args:
        sigma: of the Gaussians, pixels; they are cut off at 3 sigma.
        use_score: a map's height is the joint's score; otherwise, or without scores, it is 1.
        with_kp, with_limb: whether to make maps of joints, of limbs.
        skeletons: limbs as pairs of joints. None: the layout's bones, for ``coco`` in the order of the published
            checkpoints.
        double: make twice the clips, the second half mirrored.
        left_kp, right_kp: joints that swap when mirrored, ``left_kp[i]`` with ``right_kp[i]``; None: the layout's.
        left_limb, right_limb: limbs that swap, by their position in ``skeletons``; None: derived from the joints.
        scaling: factor of image and keypoints before drawing.
        layout: the layout's name, or its description.
    """

    def __init__(self, sigma=0.6, use_score=True, with_kp=True, with_limb=False, skeletons=None, double=False,
                 left_kp=None, right_kp=None, left_limb=None, right_limb=None, scaling=1.0, layout="coco"):
        self.sigma, self.scaling = check_real(sigma, "sigma", 0.01, 1000), check_real(scaling, "scaling", 0.01, 100)
        self.use_score, self.double = check_bool(use_score, "use_score"), check_bool(double, "double")
        self.with_kp, self.with_limb = check_bool(with_kp, "with_kp"), check_bool(with_limb, "with_limb")
        if not with_kp and not with_limb:
            raise ValueError("with_kp and with_limb are both false, expected at least one")
        layout = get_layout(layout, "GeneratePoseTarget.layout")
        # If nothing comes from the layout, samples may have other joints.
        taken = [self.double and left_kp is None, self.with_limb and skeletons is None]
        self.layout = layout if any(taken) else None
        self.pairs = mirror_pairs(left_kp, right_kp, layout)
        if skeletons is None:
            skeletons = COCO_LIMBS if layout == get_layout("coco") else layout.bones
        self.limbs = parse_limbs(skeletons) if self.with_limb else np.empty((0, 2), int)
        mirrors = self.with_limb and self.double
        self.limb_order = mirror_limbs(self.limbs, self.pairs, left_limb, right_limb) if mirrors else (
            np.arange(len(self.limbs)))

    def __call__(self, annotation, rng):
        self._check(annotation)
        size = tuple(max(int(side * self.scaling + 0.5), 1) for side in get_image_size(annotation, self))
        keypoint, score = get_coordinates(annotation) * np.float32(self.scaling), get_scores(annotation)
        if score is None or not self.use_score:
            score = np.ones(keypoint.shape[:3], np.float32)
        ends, mirrored = self._channels(keypoint.shape[2])
        array = self._zeros(annotation, len(ends), keypoint.shape[1], size)
        places = number_maps(array.shape, annotation.num_clips, mirrored if self.double else None)
        for person, person_score in zip(keypoint, score, strict=True):
            draw_segments(array.reshape(-1), places, size, self.sigma, *find_segments(person, person_score, ends))
        result = annotation.copy()
        result.array, result.num_clips = array, len(array)
        return result

    def _check(self, annotation):
        if annotation.frame_inds is not None:
            raise ConfigError("PIPELINE: GeneratePoseTarget", "draws every frame, but UniformSampleFrames has "
                              "selected some by index", "Put PoseDecode before GeneratePoseTarget")
        if self.layout is not None:
            need_joints(annotation, self, self.layout.num_joints, f"the layout {self.layout.name!r}")
        need_joint(annotation, self, 0, *self.limbs.flat, *(self.pairs.flat if self.double else ()))

    def _channels(self, joints):
        """Start and end joint of each channel ``(C, 2)``, and the channel of its mirror image ``(C,)``."""
        shown = joints if self.with_kp else 0
        ends = np.concatenate([np.arange(shown)[:, None].repeat(2, axis=1), self.limbs])
        joint_order = mirror_order(self.pairs, joints)[:shown] if self.double else np.arange(shown)
        return ends, np.concatenate([joint_order, self.limb_order + shown])

    def _zeros(self, annotation, channels, frames, size):
        clips = annotation.num_clips
        if frames % clips:
            raise sample_error(annotation, self, f"{frames} frames cannot be divided into {clips} clips",
                        "Add PoseDecode before it")
        shape = (clips * (2 if self.double else 1), channels, frames // clips, *size)
        if np.prod(shape, dtype=float) > MAX_HEATMAP_VALUES:
            size = np.prod(shape, dtype=float) * 4e-9
            raise sample_error(annotation, self, f"its heatmaps {shape} would take {size:.0f} GB",
                        "Add Resize, or a crop to a smaller size, before it")
        return np.zeros(shape, np.float32)


@TRANSFORMS.register
class FormatShape:
    """The last step for heatmaps, which already have the shape ``(num_clips, C, T, H, W)``.

    Args:
        input_format: ``NCTHW`` or ``NCTHW_Heatmap``; they mean the same.
        collapse: drop the first axis; there must be one clip.
    """

    def __init__(self, input_format, collapse=False):
        if input_format not in ("NCTHW", "NCTHW_Heatmap"):
            raise ValueError(f"input_format is {input_format!r}, expected 'NCTHW' or 'NCTHW_Heatmap'")
        self.collapse = check_bool(collapse, "collapse")

    def __call__(self, annotation, rng):
        if annotation.array is None:
            raise ConfigError("PIPELINE: FormatShape", "there are no heatmaps",
                              "Add GeneratePoseTarget before it; for graph networks use FormatGCNInput")
        if self.collapse and annotation.num_clips != 1:
            raise sample_error(annotation, self, f"collapse needs one clip, got {annotation.num_clips}")
        result = annotation.copy()
        result.array = annotation.array[0 if self.collapse else slice(None)]
        return result


def parse_limbs(skeletons):
    """Limbs ``(L, 2)`` from pairs of joints; raises a ``ValueError``."""
    pairs = [tuple(limb) if isinstance(limb, (list, tuple)) else limb for limb in skeletons] if isinstance(
        skeletons, (list, tuple)) else []
    if not pairs or not all(isinstance(limb, tuple) and len(limb) == 2 and limb[0] != limb[1] and
                            all(type(joint) is int and joint >= 0 for joint in limb) for limb in pairs):
        raise ValueError(f"skeletons is {skeletons!r}, expected pairs of joints")
    return np.array(pairs)


def mirror_limbs(limbs, pairs, left, right):
    """The limb that takes each one's place after mirroring, ``(L,)``; raises a ``ValueError``.

    Args:
        limbs: ``(L, 2)``.
        pairs: joints that swap, ``(P, 2)``.
        left, right: limbs that swap, by their numbers; None: those whose ends swap.
    """
    if (left is None) != (right is None):
        raise ValueError("expected both left_limb and right_limb, or neither")
    if left is not None:
        given = check_pairs(left, right, "left_limb", "right_limb")
        if given.max(initial=0) >= len(limbs):
            raise ValueError(f"left_limb or right_limb contains limb {given.max()}, but there are only {len(limbs)} "
                             "limbs")
        return mirror_order(given, len(limbs))
    order = mirror_order(pairs, max(limbs.max(), pairs.max(initial=0)) + 1)
    place = {frozenset(limb): i for i, limb in enumerate(limbs.tolist())}
    lonely = [limb for limb in limbs.tolist() if frozenset(order[limb].tolist()) not in place]
    if lonely:
        raise ValueError(f"the limb {lonely[0]} has no counterpart on the other side; give left_limb and right_limb")
    return np.array([place[frozenset(order[limb].tolist())] for limb in limbs])


def number_maps(shape, clips, mirrored):
    """The number of the map of each frame and channel in an array ``(clips or 2·clips, C, T, H, W)``.

    Args:
        shape: of the array.
        clips: number of clips that are not mirrored.
        mirrored: the channel of each one's mirror image; None: there are no mirrored clips.

    Returns:
        ``(clips·T, C)`` of the original maps, and of the mirrored maps or None.
    """
    _, channels, frames = shape[:3]
    numbers = np.arange(np.prod(shape[:3])).reshape(-1, channels, frames).transpose(0, 2, 1).reshape(-1, channels)
    own = numbers[:clips * frames]
    return own, None if mirrored is None else numbers[clips * frames:, mirrored]


def find_segments(keypoint, score, ends):
    """One person's segments: start and end ``(T, C, 2)``, which are equal for a joint, and height ``(T, C)``.

    As in mmaction2, a limb shorter than one pixel counts as its first joint, and both ends need the minimum score.
    """
    start, end = (keypoint[:, joint].astype(np.float64).clip(-MAX_OFFSET, MAX_OFFSET) for joint in ends.T)
    first, second = (score[:, joint] for joint in ends.T)
    short = np.square(end - start).sum(axis=-1) < 1
    height = np.where(short, first, np.minimum(first, second))
    height = np.where(np.minimum(first, second) < MIN_HEATMAP_SCORE, 0, height)
    return start, np.where(short[..., None], start, end), height


def draw_segments(flat, places, size, sigma, start, end, height):
    """Draw Gaussians around segments into maps; each pixel keeps the maximum.

    Args:
        flat: pixels of all maps, changed in place.
        places: see ``number_maps``; no two segments may share a map.
        size: height and width of a map.
        sigma: of the Gaussians, pixels.
        start, end, height: of the segments, ``(T, C, 2)`` x and y, and ``(T, C)``.
    """
    corner = np.array(size[::-1])
    # Rounded towards zero, as in mmaction2: a joint just left of the image still marks its first column.
    low = np.trunc(np.minimum(start, end) - CUTOFF * sigma).clip(0, corner).astype(np.int32)
    high = (np.trunc(np.maximum(start, end) + CUTOFF * sigma) + 1).clip(0, corner).astype(np.int32)
    pixels = np.where(height > 0, (high - low).clip(0).prod(axis=-1), 0)
    shown = pixels > 0
    own, mirrored = (None if numbers is None else numbers[shown] * (size[0] * size[1]) for numbers in places)
    start, end, height, low, high, pixels = (a[shown] for a in (start, end, height, low, high, pixels))
    for part in split_into_chunks(pixels):
        owner, x, y = list_pixels(low[part], high[part], pixels[part])
        value = compute_gaussian(x, y, start[part], end[part], owner, sigma) * height[part].take(owner)
        row = y * size[1]
        raise_to(flat, own[part].take(owner) + (row + x), value)
        if mirrored is not None:
            raise_to(flat, mirrored[part].take(owner) + (row + (size[1] - 1 - x)), value)


def split_into_chunks(pixels):
    """Slices of segments with about ``PIXELS_PER_CHUNK`` pixels each."""
    total = np.cumsum(pixels)
    cuts = np.searchsorted(total, np.arange(0, total[-1] if total.size else 0, PIXELS_PER_CHUNK))
    return [slice(begin, end) for begin, end in zip(cuts, [*cuts[1:], len(pixels)])]


def list_pixels(low, high, pixels):
    """All pixels of boxes: their boxes, x and y. ``low``, ``high``: ``(N, 2)`` x and y, ``high`` exclusive."""
    owner = np.repeat(np.arange(len(pixels)), pixels)
    first = (np.cumsum(pixels) - pixels).astype(np.int32)
    number, width = np.arange(len(owner), dtype=np.int32) - first.take(owner), (high - low)[:, 0].take(owner)
    row = number // width
    return owner, number - row * width + low[:, 0].take(owner), row + low[:, 1].take(owner)


def compute_gaussian(x, y, start, end, owner, sigma):
    """exp(-d²/2σ²) with the distance d of pixels ``(P,)`` from their owners' segments ``(N, 2)``, float32."""
    from_x, from_y = (np.subtract(pixel, origin.take(owner), dtype=np.float32)
                      for pixel, origin in zip((x, y), start.astype(np.float32).T))
    along = end - start
    if along.any():  # otherwise all are joints
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
    """Raise ``flat[at]`` to ``value`` where it is lower; ``at`` must not repeat an index."""
    flat[at] = np.maximum(flat.take(at), value)
