"""Transforms of coordinates: normalisation, rotation, a moving camera, bones and motions."""
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

FEATURES = ("j", "b", "jm", "bm")
SCORED_LAYOUTS = ("coco", "coco_keypoint", "openpose")
SPINE = 8  # the middle of the hips in PaddleVideo's FSD skeletons


@TRANSFORMS.register
class SkeletonNorm:
    """Subtract joint 8 in every frame and keep the first ``axis`` coordinates.

    Args:
        axis: 2 keeps x and y, 3 all coordinates.
        squeeze: drop the person axis, for models that take ``(C, T, V)``.
    """

    def __init__(self, axis=2, squeeze=False):
        self.axis, self.squeeze = check_positive(axis, "axis"), check_bool(squeeze, "squeeze")

    def __call__(self, annotation, rng):
        need_joint(annotation, self, SPINE)
        keypoint = get_coordinates(annotation)
        if keypoint.shape[3] < self.axis:
            raise sample_error(annotation, self,
                               f"keeps {self.axis} coordinates, but the sample has {keypoint.shape[3]}")
        result = annotation.copy()
        result.keypoint = (keypoint - keypoint[:, :, SPINE:SPINE + 1])[..., :self.axis]
        if self.squeeze:
            if keypoint.shape[0] != 1:
                raise sample_error(annotation, self,
                                   f"squeeze needs one person, but the sample has {keypoint.shape[0]}")
            result.array = result.data[..., 0]
        return result


@TRANSFORMS.register
class RandomRotation:
    """Rotate the whole sequence by one random angle about each axis; 3D only.

    A joint is multiplied by ``Rz·Ry·Rx``, with the signs of PaddleVideo and CTR-GCN.

    Args:
        argument: false switches the step off.
        theta: maximum angle, radians.
    """

    def __init__(self, argument, theta=0.3):
        self.argument, self.theta = check_bool(argument, "argument"), check_real(theta, "theta", 0, np.pi)

    def __call__(self, annotation, rng):
        if not self.argument:
            return annotation
        keypoint = get_coordinates(annotation)
        if keypoint.shape[3] != 3:
            raise sample_error(annotation, self, f"rotates 3D coordinates, but the sample has {keypoint.shape[3]}",
                        "Remove the step, or set argument: False")
        result = annotation.copy()
        result.keypoint = keypoint @ rotation_matrix(*rng.uniform(-self.theta, self.theta, 3)).T.astype(np.float32)
        return result


def rotation_matrix(x, y, z):
    """The matrix ``Rz·Ry·Rx`` of three angles in radians, each clockwise when seen against its axis."""
    (cx, cy, cz), (sx, sy, sz) = np.cos([x, y, z]), np.sin([x, y, z])
    about_x = np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    about_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    about_z = np.array([[cz, sz, 0], [-sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


@TRANSFORMS.register
class RandomMove:
    """Rotate, scale and shift x and y as if the camera moved (ST-GCN's paper, section 4; st-gcn's ``random_move``).

    The sequence is divided into equal segments. At each boundary, an angle, a scale and a shift are drawn; in between
    they are interpolated linearly. All persons move together; as in st-gcn, missing joints (0, 0) move too. Other
    coordinates (z, or a score stored as a coordinate) do not change.

    Args:
        angle_candidate: degrees, counter-clockwise if y points up.
        scale_candidate: factors.
        transform_candidate: shifts in x and in y, in units of the coordinates.
        move_time_candidate: numbers of segments.
    """

    def __init__(self, angle_candidate=(-10, -5, 0, 5, 10), scale_candidate=(0.9, 1.0, 1.1),
                 transform_candidate=(-0.2, -0.1, 0.0, 0.1, 0.2), move_time_candidate=(1,)):
        self.angles = np.deg2rad(_number_list(angle_candidate, "angle_candidate", 360))
        self.scales = _number_list(scale_candidate, "scale_candidate", 100)
        self.shifts = _number_list(transform_candidate, "transform_candidate", 1e6)
        _number_list(move_time_candidate, "move_time_candidate", 1e6)
        self.stretches = [check_positive(number, "move_time_candidate") for number in move_time_candidate]

    def __call__(self, annotation, rng):
        keypoint = get_coordinates(annotation)
        if keypoint.shape[3] < 2:
            raise sample_error(annotation, self, f"moves x and y, but the sample has {keypoint.shape[3]} coordinate")
        stretches = int(rng.choice(self.stretches))
        cuts = np.round(np.arange(stretches + 1) * keypoint.shape[1] / stretches).astype(np.int64)
        drawn = [rng.choice(values, stretches + 1) for values in (self.angles, self.scales, self.shifts, self.shifts)]
        angle, scale, x, y = interpolate(cuts, np.array(drawn))
        cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
        turn = np.stack([cos, -sin, sin, cos], axis=-1).reshape(-1, 2, 2).astype(np.float32)
        shift = np.stack([x, y], axis=-1).astype(np.float32)[:, None]
        moved = keypoint[..., :2] @ turn.transpose(0, 2, 1) + shift
        result = annotation.copy()
        result.keypoint = np.concatenate([moved, keypoint[..., 2:]], axis=-1)
        return result


def _number_list(values, name, limit):
    """``values`` as an array of numbers in -limit..limit; raises a ``ValueError``."""
    if not isinstance(values, (list, tuple)) or not values:
        raise ValueError(f"{name} is {values!r}, expected a list of numbers")
    return np.array([check_real(value, name, -limit, limit) for value in values])


def interpolate(cuts, values):
    """Values for every frame ``(…, T)``, linear from ``values[i]`` at ``cuts[i]`` to ``values[i + 1]`` before the next.

    Args:
        cuts: K + 1 frame numbers from 0 to T.
        values: ``(…, K + 1)``.
    """
    frame = np.arange(cuts[-1])
    part = np.searchsorted(cuts, frame, side="right") - 1
    begin, end = cuts[part], cuts[part + 1]
    share = (frame - begin) / np.maximum(end - begin - 1, 1)
    return values[..., part] + share * (values[..., part + 1] - values[..., part])


@TRANSFORMS.register
class PreNormalize2D:
    """Scale pixels to -1..1 over the image's width and height.

    Args:
        img_shape: (height, width) for samples without ``img_shape``.
    """

    def __init__(self, img_shape=(1080, 1920)):
        if not isinstance(img_shape, (list, tuple)) or len(img_shape) != 2:
            raise ValueError(f"img_shape is {img_shape!r}, expected [height, width]")
        self.img_shape = tuple(check_real(side, "img_shape", 1, 1e6) for side in img_shape)

    def __call__(self, annotation, rng):
        height, width = annotation.img_shape or self.img_shape
        keypoint, half = get_coordinates(annotation), np.array([width / 2, height / 2], np.float32)
        result = annotation.copy()
        result.keypoint = np.concatenate([(keypoint[..., :2] - half) / half, keypoint[..., 2:]], axis=-1)
        return result


@TRANSFORMS.register
class PreNormalize3D:
    """Drop empty frames, move the first person's centre in the first frame to the origin, and rotate it upright.

    The person with the most frames becomes the first; its empty frames are dropped for all. Missing joints (0, 0, 0)
    do not change. As in 2s-AGCN (Shi et al., CVPR 2019), mmaction2 and pyskl.

    Args:
        zaxis: two joints; the bone from the first to the second is rotated onto the z axis (first frame).
        xaxis: two joints; then the line from the second to the first is rotated towards the x axis.
        align_spine: whether to rotate.
        align_center: whether to move.
        layout: layout whose centre joint is moved to the origin. None: joint 1 of 25 joints, the last one of any other
            number.
    """

    def __init__(self, zaxis=(0, 1), xaxis=(8, 4), align_spine=True, align_center=True, layout=None):
        self.zaxis, self.xaxis = _pair(zaxis, "zaxis"), _pair(xaxis, "xaxis")
        self.align_spine = check_bool(align_spine, "align_spine")
        self.align_center = check_bool(align_center, "align_center")
        self.layout = None if layout is None else get_layout(layout, "PreNormalize3D.layout")

    def __call__(self, annotation, rng):
        if annotation.keypoint.shape[3] != 3:
            raise sample_error(annotation, self,
                               f"needs 3D coordinates, but the sample has {annotation.keypoint.shape[3]}")
        if self.layout is not None:
            need_joints(annotation, self, self.layout.num_joints, f"the layout {self.layout.name!r}")
        if self.align_spine:
            need_joint(annotation, self, *self.zaxis, *self.xaxis)
        result = self._without_empty_frames(annotation)
        keypoint = result.keypoint.astype(np.float64)
        if self.align_center:
            present = keypoint.any(axis=-1, keepdims=True)
            keypoint = (keypoint - keypoint[0, 0, self._center(keypoint.shape[2])]) * present
        if self.align_spine:
            for (start, end), target in ((self.zaxis, (0, 0, 1)), (self.xaxis[::-1], (1, 0, 0))):
                keypoint = keypoint @ rotation_between(keypoint[0, 0, end] - keypoint[0, 0, start], target).T
        result.keypoint = keypoint.astype(np.float32)
        return result

    def _center(self, joints):
        if self.layout is not None:
            return self.layout.center
        return 1 if joints == 25 else joints - 1

    def _without_empty_frames(self, annotation):
        keypoint, score = get_coordinates(annotation), get_scores(annotation)
        filled = (np.abs(keypoint) > 1e-8).any(axis=(2, 3))
        first = int(np.argmax(filled.sum(axis=1)))
        if not filled[first].any():
            raise sample_error(annotation, self, "it has no person: all its coordinates are 0")
        if not filled[first].all() and annotation.frame_inds is not None:
            raise sample_error(annotation, self, "drops frames after UniformSampleFrames has selected some by index",
                        "Put PreNormalize3D before UniformSampleFrames")
        order = np.arange(len(keypoint))
        order[[0, first]] = first, 0
        result = annotation.copy()
        result.keypoint = keypoint[order][:, filled[first]]
        result.keypoint_score = None if score is None else score[order][:, filled[first]]
        return result


def _pair(joints, name):
    if not isinstance(joints, (list, tuple)) or len(joints) != 2 or not all(
            isinstance(j, int) and not isinstance(j, bool) and j >= 0 for j in joints):
        raise ValueError(f"{name} is {joints!r}, expected two joint numbers")
    return tuple(joints)


def rotation_between(vector, target):
    """The matrix ``(3, 3)`` of the shortest rotation from ``vector`` to the unit vector ``target``.

    Rodrigues' formula. Vectors that are too short to have a direction, or parallel to the target, are not rotated.
    """
    axis, length = np.cross(vector, target), np.linalg.norm(vector)
    if np.abs(vector).sum() < 1e-6 or np.abs(axis).sum() < 1e-6:
        return np.eye(3)
    cosine, (x, y, z) = np.clip(np.dot(vector, target) / length, -1, 1), axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sqrt(1 - cosine**2) * cross + (1 - cosine) * cross @ cross


def bones(keypoint, parents, scored=False):
    """Each joint minus its origin, ``(…, V, C)``. ``scored``: channel 2 is a score, which becomes the mean of both."""
    origin = keypoint[..., parents, :]
    return _with_mean_score(keypoint - origin, keypoint, origin) if scored else keypoint - origin


def motions(keypoint, scored=False):
    """Difference to the next frame ``(M, T, V, C)``, 0 in the last one. ``scored``: as in ``bones``, of both frames."""
    result = np.zeros_like(keypoint)
    now, then = keypoint[:, :-1], keypoint[:, 1:]
    result[:, :-1] = _with_mean_score(then - now, then, now) if scored else then - now
    return result


def _with_mean_score(difference, a, b):
    return np.concatenate([difference[..., :2], (a[..., 2:] + b[..., 2:]) / 2], axis=-1)


@TRANSFORMS.register
class GenSkeFeat:
    """Joints, bones and their motions, concatenated; the score becomes the third channel of a 2D skeleton.

    Args:
        dataset: the layout's name, or its description.
        feats: one or more of ``j`` joint, ``b`` bone, ``jm`` joint motion, ``bm`` bone motion.
        axis: axis of ``(M, T, V, C)`` along which to concatenate.
    """

    def __init__(self, dataset="nturgb+d", feats=("j",), axis=-1):
        self.layout = get_layout(dataset, "GenSkeFeat.dataset")
        self.parents = self.layout.parents()
        self.feats = [feats] if isinstance(feats, str) else list(feats)
        unknown = [feat for feat in self.feats if feat not in FEATURES]
        if unknown or not self.feats:
            raise ValueError(f"feats are {feats!r}, expected some of {', '.join(FEATURES)}")
        if axis not in (-4, -3, -2, -1, 0, 1, 2, 3) or isinstance(axis, bool):
            raise ValueError(f"axis is {axis!r}, expected one of the 4 axes of (M, T, V, C)")
        self.axis = axis

    def __call__(self, annotation, rng):
        need_joints(annotation, self, self.layout.num_joints, f"the layout {self.layout.name!r}")
        joint, score = get_coordinates(annotation), get_scores(annotation)
        if score is not None:
            if joint.shape[3] != 2:
                raise sample_error(annotation, self, f"found scores and {joint.shape[3]} coordinates, expected x and y",
                            "Only 2D skeletons may have scores")
            joint = np.concatenate([joint, score[..., None]], axis=-1)
        scored = joint.shape[3] == 3 and (score is not None or self.layout.name in SCORED_LAYOUTS)
        features = []
        for feat in self.feats:
            feature = bones(joint, self.parents, scored) if feat.startswith("b") else joint
            features.append(motions(feature, scored) if feat.endswith("m") else feature)
        result = annotation.copy()
        result.keypoint, result.keypoint_score = np.concatenate(features, axis=self.axis), None
        return result


@TRANSFORMS.register
class SketeonModalityTransform:
    """Replace joints by bones, motions, or motions of bones (PaddleVideo's spelling).

    Args:
        bone, motion: what to compute; both: motions of bones.
        joint: true keeps the joints and overrides ``bone`` and ``motion``.
        graph: the layout's name, or its description.
    """

    def __init__(self, bone, motion, joint=True, graph="ntu_rgb_d"):
        self.bone, self.motion = check_bool(bone, "bone"), check_bool(motion, "motion")
        self.joint, self.layout = check_bool(joint, "joint"), get_layout(graph, "SketeonModalityTransform.graph")
        self.parents = self.layout.parents()

    def __call__(self, annotation, rng):
        if self.joint:
            return annotation
        need_joints(annotation, self, self.layout.num_joints, f"the graph {self.layout.name!r}")
        keypoint = get_coordinates(annotation)
        if self.bone:
            keypoint = bones(keypoint, self.parents)
        if self.motion:
            keypoint = motions(keypoint)
        result = annotation.copy()
        result.keypoint = keypoint
        return result
