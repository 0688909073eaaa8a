"""The recipes' pre-processing written the obvious way: frame by frame, person by person, joint by joint.

What ``loaders.py`` compares with. Each function goes from an annotation to the network's array, as the train pipeline
of the recipe it is for does, and draws the same random numbers in the same order.
"""
import numpy as np
from heatmaps import JOINTS, drawn

from paddlevideo_skel.skeleton import get_layout


def crop_and_resize(keypoint, window, low, rng):
    """CTR-GCN's random crop in time, ``(M, T, V, C)`` → ``(M, window, V, C)``, linear between two frames."""
    frames = 0
    for t in range(keypoint.shape[1]):
        if keypoint[:, t].any():
            frames += 1
    length = min(max(int(frames * rng.uniform(low, 1)), 64), frames)
    begin = int(rng.integers(0, frames - length + 1))
    result = np.zeros((len(keypoint), window, *keypoint.shape[2:]), np.float32)
    for t in range(window):
        position = min(max((t + 0.5) * length / window - 0.5, 0), length - 1)
        left = int(position)
        right, weight = min(left + 1, length - 1), np.float32(position - left)
        for m in range(len(keypoint)):
            result[m, t] = keypoint[m, begin + left] * (1 - weight) + keypoint[m, begin + right] * weight
    return result


def rotate(keypoint, rng, theta=0.3):
    """One random turn, applied frame by frame."""
    x, y, z = rng.uniform(-theta, theta, 3)
    about_x = np.array([[1, 0, 0], [0, np.cos(x), np.sin(x)], [0, -np.sin(x), np.cos(x)]])
    about_y = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    about_z = np.array([[np.cos(z), np.sin(z), 0], [-np.sin(z), np.cos(z), 0], [0, 0, 1]])
    matrix, result = about_z @ about_y @ about_x, np.empty_like(keypoint)
    for m in range(len(keypoint)):
        for t in range(keypoint.shape[1]):
            result[m, t] = (matrix @ keypoint[m, t].T).T
    return result


def bone_motion(keypoint, layout):
    """Each joint minus its origin, then the next frame minus this one."""
    bones, motion = np.zeros_like(keypoint), np.zeros_like(keypoint)
    for joint, parent in enumerate(get_layout(layout).parents()):
        bones[:, :, joint] = keypoint[:, :, joint] - keypoint[:, :, parent]
    for t in range(keypoint.shape[1] - 1):
        motion[:, t] = bones[:, t + 1] - bones[:, t]
    return motion


def turned_to(vector, target):
    """The matrix that turns a vector to an axis."""
    axis = np.cross(vector, target)
    axis = axis / np.linalg.norm(axis)
    angle = np.arccos(np.dot(vector, target) / np.linalg.norm(vector))
    half = np.cos(angle / 2)
    b, c, d = -axis * np.sin(angle / 2)
    return np.array([[half**2 + b**2 - c**2 - d**2, 2 * (b * c + half * d), 2 * (b * d - half * c)],
                     [2 * (b * c - half * d), half**2 + c**2 - b**2 - d**2, 2 * (c * d + half * b)],
                     [2 * (b * d + half * c), 2 * (c * d - half * b), half**2 + d**2 - b**2 - c**2]])


def upright(keypoint, center, turn=True):
    """2s-AGCN's normalisation of a sequence whose first person is in every frame."""
    result, origin = np.zeros(keypoint.shape), keypoint[0, 0, center].astype("float64")
    for m in range(len(keypoint)):
        for t in range(keypoint.shape[1]):
            for v in range(keypoint.shape[2]):
                if keypoint[m, t, v].any():
                    result[m, t, v] = keypoint[m, t, v] - origin
    for (start, end), target in (((0, 1), (0, 0, 1)), ((4, 8), (1, 0, 0))) if turn else ():
        matrix = turned_to(result[0, 0, end] - result[0, 0, start], target)
        for m in range(len(keypoint)):
            for t in range(keypoint.shape[1]):
                for v in range(keypoint.shape[2]):
                    result[m, t, v] = matrix @ result[m, t, v]
    return result.astype("float32")


def sampled(frames, length, rng, even=False):
    """The numbers of ``length`` frames out of ``frames``, PoseC3D's way of drawing them."""
    if frames < length:
        start = rng.integers(0, frames)
        return [(start + t) % frames for t in range(length)]
    if frames < 2 * length and not even:
        left_out, chosen, skipped = set(rng.choice(length + 1, frames - length, replace=False).tolist()), [], 0
        for t in range(length):
            skipped += t in left_out
            chosen.append(t + skipped)
        return chosen
    bounds = [t * frames // length for t in range(length + 1)]
    offsets = rng.integers([bounds[t + 1] - bounds[t] for t in range(length)])
    return [bounds[t] + int(offsets[t]) for t in range(length)]


def persons_in_clips(keypoint, chosen, persons):
    """``(1, persons, T, V, C)`` of the chosen frames, zeros for who is not there."""
    result = np.zeros((1, persons, len(chosen), *keypoint.shape[2:]), np.float32)
    for m in range(min(persons, len(keypoint))):
        for t, frame in enumerate(chosen):
            result[0, m, t] = keypoint[m, frame]
    return result


def moved(keypoint, rng):
    """ST-GCN's moving camera with one stretch, frame by frame."""
    angles, scales = np.deg2rad([-10.0, -5.0, 0.0, 5.0, 10.0]), np.array([0.9, 1.0, 1.1])
    shifts, frames = np.array([-0.2, -0.1, 0.0, 0.1, 0.2]), keypoint.shape[1]
    rng.choice([1])
    drawn_values = [rng.choice(values, 2) for values in (angles, scales, shifts, shifts)]
    result = keypoint.copy()
    for t in range(frames):
        angle, scale, x, y = (first + (last - first) * t / (frames - 1) for first, last in drawn_values)
        matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        for m in range(len(keypoint)):
            result[m, t, :, :2] = (matrix @ keypoint[m, t, :, :2].T).T + (x, y)
    return result


def network_form(keypoint, persons):
    """``(C, T, V, M)``, zeros for who is not there."""
    result = np.zeros((keypoint.shape[3], *keypoint.shape[1:3], persons), np.float32)
    for m in range(min(persons, len(keypoint))):
        for c in range(keypoint.shape[3]):
            result[c, :, :, m] = keypoint[m, :, :, c]
    return result


def ctrgcn(annotation, rng):
    return network_form(rotate(crop_and_resize(annotation.keypoint, 64, 0.5, rng), rng), 2)


def ctrgcn_bone_motion(annotation, rng):
    turned = rotate(crop_and_resize(annotation.keypoint, 64, 0.5, rng), rng)
    return network_form(bone_motion(turned, "ntu_rgb_d"), 2)


def stgcn_ntu(annotation, rng):
    last = 0
    for t in range(annotation.total_frames):
        if annotation.keypoint[:, t].any():
            last = t + 1
    padded = np.zeros((len(annotation.keypoint), 300, *annotation.keypoint.shape[2:]), np.float32)
    for t in range(last):
        padded[:, t] = annotation.keypoint[:, t]
    return network_form(padded, 2)


def stgcn_kinetics(annotation, rng):
    begin = int(rng.integers(0, annotation.total_frames - 150 + 1))
    return network_form(moved(annotation.keypoint[:, begin:begin + 150], rng), 2)


def stgcn_utkinect(annotation, rng):
    keypoint = upright(annotation.keypoint, 1, turn=False)
    chosen = sampled(keypoint.shape[1], 32, rng, even=True)
    return network_form(persons_in_clips(keypoint, chosen, 1)[0], 1)


def stgcn_plusplus_2d(annotation, rng):
    height, width = annotation.img_shape
    chosen = sampled(annotation.total_frames, 100, rng)
    keypoint = np.zeros((*annotation.keypoint.shape[:3], 3), np.float32)
    for m in range(len(keypoint)):
        for t in range(keypoint.shape[1]):
            for v in range(keypoint.shape[2]):
                x, y = annotation.keypoint[m, t, v].astype("float32")
                keypoint[m, t, v] = ((x - width / 2) / (width / 2), (y - height / 2) / (height / 2),
                                     annotation.keypoint_score[m, t, v])
    return persons_in_clips(keypoint, chosen, 2)


def stgcn_plusplus_3d(annotation, rng):
    keypoint = upright(annotation.keypoint, 1)
    return persons_in_clips(keypoint, sampled(keypoint.shape[1], 100, rng), 2)


def posec3d(annotation, rng, before):
    """Heatmaps drawn one by one; cutting, resizing, cropping and mirroring are whole-array steps everywhere.

    Args:
        before: the recipe's steps up to ``GeneratePoseTarget``.
    """
    for step in before:
        annotation = step(annotation, rng)
    heatmaps = drawn(annotation.keypoint, annotation.keypoint_score, annotation.img_shape, JOINTS)
    return np.ascontiguousarray(heatmaps.swapaxes(0, 1)[None])
