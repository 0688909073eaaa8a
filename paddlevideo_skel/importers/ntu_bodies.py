"""Turn the bodies that NTU RGB+D's camera tracked into the persons of the action.

The choice follows the denoising of CTR-GCN's data (Chen et al., ICCV 2021) and pyskl's: short and implausible bodies
are dropped; of the rest, those that move most are kept.
"""
import numpy as np

from ..data.transforms.coordinates import rotation_between
from ..errors import DataError
from .ntu_skeleton import NTU_JOINTS, TrackedBody

MAX_NOISE_FRAMES = 11  # a body seen in at most this many frames is noise
MAX_WIDTH_RATIO = 0.8  # width / height; a wider body is not a person
MAX_WIDE_SHARE = 0.69754  # a body with at least this share of implausible frames is dropped
SPINE_BASE, SPINE_MID, LEFT_SHOULDER, RIGHT_SHOULDER = 0, 1, 4, 8


def choose_persons(bodies, most):
    """The persons of an action, those that move most first.

    In this order: frames without bodies are removed; bodies seen in 11 frames or fewer are dropped; of several bodies,
    implausible ones are dropped (``drop_implausible``); the others become persons (``assign_persons``), in descending
    order of ``measure_energy``; a person's gaps are filled with its last pose; frames before the first and after the
    last person are cut off.

    Args:
        bodies: list of ``TrackedBody``.
        most: maximum number of persons.

    Returns:
        ``(M, T, 25, 3)`` float32, metres, with M from 1 to ``most``; zeros where a person is absent.

    Raises:
        DataError: no body is long enough; its problem begins with ``short:``. The caller adds the file.
    """
    bodies = _without_empty_frames(bodies)
    long = [body for body in bodies if len(body.frames) > MAX_NOISE_FRAMES]
    if not long:
        seen = max(len(body.frames) for body in bodies)
        raise DataError("bodies", f"short: no body is seen in more than {seen} frames, expected at least "
                                  f"{MAX_NOISE_FRAMES + 1}")
    kept = drop_implausible(long) if len(long) > 1 else long
    persons = assign_persons(sorted(kept, key=measure_energy, reverse=True), most)
    present = persons.any(axis=(0, 2, 3)).nonzero()[0]
    return persons[:, present[0]:present[-1] + 1]


def _without_empty_frames(bodies):
    """The bodies, with frames renumbered so that frames without bodies do not count."""
    frames = np.unique(np.concatenate([body.frames for body in bodies]))
    return [TrackedBody(np.searchsorted(frames, body.frames), body.joints) for body in bodies]


def is_wide(body):
    """Whether a body is more than 0.8 times as wide (x) as high (y), for each of its frames ``(n,)``."""
    width, height = np.ptp(body.joints[..., 0], axis=1), np.ptp(body.joints[..., 1], axis=1)
    return width > MAX_WIDTH_RATIO * height


def drop_implausible(bodies):
    """The bodies that are wide in less than 69.754 % of their frames; if there are none, the one with the fewest."""
    shares = [is_wide(body).mean() for body in bodies]
    return [body for body, share in zip(bodies, shares) if share < MAX_WIDE_SHARE] or [bodies[int(np.argmin(shares))]]


def measure_energy(body):
    """How much a body moves: the sum of the variances of x, y and z over its joints and frames, m².

    If the body is wide in some frames, the smaller of two values: over all frames, and over the other frames.
    """
    usual = ~is_wide(body)
    values = [_variance(body.joints)]
    if 0 < usual.sum() < len(usual):
        values.append(_variance(body.joints[usual]))
    return min(values)


def _variance(joints):
    return joints.reshape(-1, 3).astype(np.float64).var(axis=0).sum()


def assign_persons(bodies, most):
    """Persons ``(M, T, 25, 3)`` from bodies in descending importance.

    A body joins the first person that it does not overlap in time, because the camera assigns a new id after losing
    sight of a person. A body that overlaps with all ``most`` persons is dropped. A body's time goes from the first to
    the last frame in which it is seen.
    """
    frames = max(body.frames[-1] for body in bodies) + 1
    persons = np.zeros((most, frames, NTU_JOINTS, 3), np.float32)
    taken, seen = np.zeros((2, most, frames), bool)
    for body in bodies:
        time = slice(body.frames[0], body.frames[-1] + 1)
        free = np.flatnonzero(~taken[:, time].any(axis=1))
        if free.size:
            taken[free[0], time] = seen[free[0], body.frames] = True
            persons[free[0], body.frames] = body.joints
    return np.stack([_filled(*person) for person in zip(persons, seen) if person[1].any()])


def _filled(person, seen):
    """A person ``(T, 25, 3)`` whose gaps hold the pose before them."""
    last = np.maximum.accumulate(np.where(seen, np.arange(len(seen)), -1))
    between = slice(last.max() + 1)
    filled = np.zeros_like(person)
    filled[between] = np.where((last >= 0)[between, None, None], person[last[between]], 0)
    return filled


def centre_spine(persons):
    """Move the middle of the spine (joint 1) of the first person in its first frame to the origin.

    Args:
        persons: ``(M, T, 25, 3)``; zeros of absent persons stay zeros.
    """
    return np.where(_present(persons), persons - _first_pose(persons)[SPINE_MID], 0).astype(np.float32)


def align_spine(persons):
    """Rotate all persons about the origin so that, in the first person's first frame, the bone from the base to the
    middle of the spine points along z, and the line from the left to the right shoulder along x.

    2s-AGCN and pyskl rotate the shoulders onto the x axis by a rotation that tilts the spine again. Here the second
    rotation is about z, by the shoulders' horizontal direction: the spine stays upright.

    Args:
        persons: ``(M, T, 25, 3)``.
    """
    pose = _first_pose(persons).astype(np.float64)
    upright = rotation_between(pose[SPINE_MID] - pose[SPINE_BASE], (0, 0, 1))
    x, y, _ = upright @ (pose[RIGHT_SHOULDER] - pose[LEFT_SHOULDER])
    level = np.hypot(x, y)
    cosine, sine = (x / level, y / level) if level > 1e-6 else (1, 0)
    ahead = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    return (persons @ (ahead @ upright).T).astype(np.float32)


def _present(persons):
    return persons.any(axis=(2, 3), keepdims=True)


def _first_pose(persons):
    """The first person's joints in its first frame, ``(25, 3)``."""
    return persons[0, _present(persons)[0].argmax()]


def pad_sequence(persons, frames, repeat=False):
    """The array ``(3, frames, 25, 2)`` of ``.npy`` sets; an absent second person is zeros.

    Longer sequences are cut; shorter ones are padded with zeros or, with ``repeat``, with the sequence itself.
    """
    data = np.zeros((3, frames, NTU_JOINTS, 2), np.float32)
    length = frames if repeat else min(frames, persons.shape[1])
    data[:, :length, :, :len(persons)] = persons[:, np.arange(length) % persons.shape[1]].transpose(3, 1, 2, 0)
    return data
