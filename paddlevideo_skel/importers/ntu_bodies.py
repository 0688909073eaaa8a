"""From the bodies that NTU RGB+D's camera took for persons to the persons of the action.

The choice follows the denoising of CTR-GCN's data (Chen et al., ICCV 2021) and pyskl's: short and implausible bodies
are dropped, then those that move most are taken.
"""
import numpy as np

from ..data.transforms.coordinates import rotation_between
from ..errors import DataError
from .ntu_skeleton import JOINTS, Body

SHORT = 11  # frames; a body seen in no more is noise
WIDE = 0.8  # a person is at most so wide for its height, or the frame is implausible
MAX_WIDE_SHARE = 0.69754  # share of implausible frames from which a body is dropped
SPINE_BASE, SPINE_MID, LEFT_SHOULDER, RIGHT_SHOULDER = 0, 1, 4, 8


def choose_persons(bodies, most):
    """The persons of an action, those that move most first.

    In this order: frames in which nobody is seen are left out; bodies seen in 11 frames or fewer are dropped; of
    several, implausible ones (``plausible``); the rest, by falling ``energy``, become persons (``assign``); a person's
    gaps are filled with its last pose; frames before the first and after the last person are cut off.

    Args:
        bodies: list of ``Body``.
        most: persons at most.

    Returns:
        ``(M, T, 25, 3)`` float32, metres, with M from 1 to ``most``; zeros where a person is not there yet, or no more.

    Raises:
        DataError: no body is long enough; its problem begins with ``short:``. The file is for the caller to name.
    """
    bodies = _without_empty_frames(bodies)
    long = [body for body in bodies if len(body.frames) > SHORT]
    if not long:
        seen = max(len(body.frames) for body in bodies)
        raise DataError("bodies", f"short: no body is seen in more than {seen} frames, expected {SHORT + 1} or more")
    kept = plausible(long) if len(long) > 1 else long
    persons = assign(sorted(kept, key=energy, reverse=True), most)
    present = persons.any(axis=(0, 2, 3)).nonzero()[0]
    return persons[:, present[0]:present[-1] + 1]


def _without_empty_frames(bodies):
    """The bodies with frames numbered over those in which anybody is seen."""
    frames = np.unique(np.concatenate([body.frames for body in bodies]))
    return [Body(np.searchsorted(frames, body.frames), body.joints) for body in bodies]


def wide(body):
    """In which of its frames a body is more than 0.8 times as wide (x) as high (y), ``(n,)``: such are no persons."""
    width, height = np.ptp(body.joints[..., 0], axis=1), np.ptp(body.joints[..., 1], axis=1)
    return width > WIDE * height


def plausible(bodies):
    """The bodies of which less than 69.754 % of the frames are ``wide``; if none is left, the one with fewest."""
    shares = [wide(body).mean() for body in bodies]
    return [body for body, share in zip(bodies, shares) if share < MAX_WIDE_SHARE] or [bodies[int(np.argmin(shares))]]


def energy(body):
    """How much a body moves: the variances of x, y and z over its joints and frames, added up (m²).

    If some of its frames are ``wide``, the lesser of this and the same without them.
    """
    usual = ~wide(body)
    values = [_variance(body.joints)]
    if 0 < usual.sum() < len(usual):
        values.append(_variance(body.joints[usual]))
    return min(values)


def _variance(joints):
    return joints.reshape(-1, 3).astype(np.float64).var(axis=0).sum()


def assign(bodies, most):
    """Persons ``(M, T, 25, 3)`` from bodies in the order of their importance.

    A body becomes the first person whose time it does not touch, for the camera gives one person several ids when it
    loses sight of it. A body that touches the time of all ``most`` persons is dropped. The time of a body goes from
    the first to the last frame in which it is seen.
    """
    frames = max(body.frames[-1] for body in bodies) + 1
    persons = np.zeros((most, frames, JOINTS, 3), np.float32)
    taken, seen = np.zeros((2, most, frames), bool)
    for body in bodies:
        time = slice(body.frames[0], body.frames[-1] + 1)
        free = np.flatnonzero(~taken[:, time].any(axis=1))
        if free.size:
            taken[free[0], time] = seen[free[0], body.frames] = True
            persons[free[0], body.frames] = body.joints
    return np.stack([_filled(*person) for person in zip(persons, seen) if person[1].any()])


def _filled(person, seen):
    """A person ``(T, 25, 3)`` with the pose of its last frame in each gap between its first and last."""
    last = np.maximum.accumulate(np.where(seen, np.arange(len(seen)), -1))
    between = slice(last.max() + 1)
    filled = np.zeros_like(person)
    filled[between] = np.where((last >= 0)[between, None, None], person[last[between]], 0)
    return filled


def centre(persons):
    """Move the first person's middle of the spine (joint 1) in its first frame to the origin.

    Args:
        persons: ``(M, T, 25, 3)``; zeros where a person is not there stay so.
    """
    return np.where(_present(persons), persons - _first_pose(persons)[SPINE_MID], 0).astype(np.float32)


def align(persons):
    """Turn all, so that in the first person's first frame the bone from the spine's base to its middle is the z axis,
    and the line from the left to the right shoulder points along x.

    2s-AGCN and pyskl turn the shoulders onto the x axis itself, by a turn that moves the spine again. Here the second
    turn is about z, as far as the shoulders are level: the spine stays upright.

    Args:
        persons: ``(M, T, 25, 3)``; turned about the origin.
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
    """The first person's joints in the first frame in which it is there, ``(25, 3)``."""
    return persons[0, _present(persons)[0].argmax()]


def to_data(persons, frames, repeat=False):
    """The ``(3, frames, 25, 2)`` array of ``.npy`` sets: cut off, or with zeros or ``repeat`` the sequence from its
    beginning, up to so many frames; a missing second person is zeros."""
    data = np.zeros((3, frames, JOINTS, 2), np.float32)
    length = frames if repeat else min(frames, persons.shape[1])
    data[:, :length, :, :len(persons)] = persons[:, np.arange(length) % persons.shape[1]].transpose(3, 1, 2, 0)
    return data
