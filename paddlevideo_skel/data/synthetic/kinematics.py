"""Articulated figures: bodies, and the kinematics that move them.

A figure is driven by a ``Motion``: a few curves over time (where it stands, how it leans, where wrists and
ankles should be). ``pose`` turns them into joints: the trunk by forward kinematics, arms and legs by
two-bone inverse kinematics, so every bone keeps its length.

Frames of reference are right-handed, in metres: x to the figure's own right, y up, z to its back. A figure
with heading 0 thus faces a camera that looks along +z, and x, y, z are the Kinect's axes as NTU RGB+D has
them. Targets are ``(outward, up, forward)``, the same for either side of the body, in lengths of the arm
(from the shoulder) or of the leg (from the ground below the pelvis).
"""
import numpy as np

FPS = 30
LEFT, RIGHT = 0, 1
SIDES = ("left", "right")
HANG = np.array((0.14, -0.95, 0.06))  # a hanging arm is never quite straight

# Lengths in parts of the body's height; the proportions are those of NTU RGB+D's skeletons.
_PARTS = {"spine_low": 0.17, "spine_high": 0.13, "neck": 0.045, "head": 0.08, "shoulder": 0.092, "upper_arm": 0.16,
          "forearm": 0.142, "hand": 0.045, "hand_tip": 0.045, "thumb": 0.032, "hip": 0.052, "thigh": 0.215,
          "shin": 0.205, "foot": 0.068, "ankle": 0.045}


class Body:
    """The lengths of one person's bones in metres, drawn from ``rng``; left and right are alike."""

    def __init__(self, rng):
        self.height = rng.uniform(1.5, 1.92)
        for part, length in _PARTS.items():
            setattr(self, part, self.height * length * rng.uniform(0.93, 1.07))
        self.arm, self.leg = self.upper_arm + self.forearm, self.thigh + self.shin
        # Knees slightly bent: a leg at full stretch would jerk with every small movement of the pelvis.
        self.pelvis = self.ankle + 0.985 * self.leg + 0.2 * self.hip


class Motion:
    """The motion of one figure over T frames; initially standing at rest, swaying slightly.

    Attributes:
        ground: ``(T, 3)`` metres, the point below the pelvis; its y lifts the whole figure (a jump).
        heading, lean, roll, twist, nod, look: ``(T,)`` radians; of the figure (to its left), of the trunk
            (forward, to its right, to its left) and of the head (down, to its left).
        drop, shift: ``(T,)`` of the pelvis, down and forward, in leg lengths.
        hands, feet: ``(2, T, 3)`` targets (outward, up, forward) of left and right wrist and ankle.
        reach: side -> (weight ``(T,)``, point ``(T, 3)`` metres): pulls a wrist to a point in the scene.
    """

    def __init__(self, num_frames, rng):
        def drift(amount):
            frequency, phase = rng.uniform(0.1, 0.7, 2), rng.uniform(0, 2 * np.pi, 2)
            waves = np.sin(2 * np.pi * frequency * np.arange(num_frames)[:, None] / FPS + phase)
            return amount * rng.uniform(0.3, 1) * waves.mean(axis=1)

        self.ground = np.zeros((num_frames, 3))
        self.heading, self.roll, self.twist = drift(0.04), drift(0.03), drift(0.06)
        self.lean, self.nod, self.look = 0.03 + drift(0.04), drift(0.12), drift(0.2)
        self.drop, self.shift = np.zeros(num_frames), drift(0.015)
        self.hands = np.stack([np.tile(HANG + rng.normal(0, 0.03, 3), (num_frames, 1)) for _ in SIDES])
        self.hands += np.stack([np.stack([drift(0.03) for _ in range(3)], axis=1) for _ in SIDES])
        self.feet = np.zeros((2, num_frames, 3))
        self.feet[..., 0] = rng.uniform(0.08, 0.16)
        self.reach = {}


def _rotation(axis, angle):
    """Rotation matrices ``(T, 3, 3)`` about a coordinate axis, by the right-hand rule."""
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.tile(np.eye(3), (len(angle), 1, 1))
    matrix[:, i, i] = matrix[:, j, j] = np.cos(angle)
    matrix[:, j, i] = np.sin(angle)
    matrix[:, i, j] = -matrix[:, j, i]
    return matrix


def _trunk(heading, twist, lean, roll):
    """Orientation ``(T, 3, 3)`` of a part of the trunk."""
    return _rotation(1, heading + twist) @ _rotation(0, -lean) @ _rotation(2, -roll)


def _unit(vector):
    return vector / np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-9)


def _across(vector, direction):
    """The unit vectors along that part of ``vector`` that is perpendicular to ``direction``."""
    return _unit(vector - (vector * direction).sum(axis=-1, keepdims=True) * direction)


def _two_bones(start, target, first, second, pole):
    """Middle and end joint ``(T, 3)`` of a limb that reaches for ``target`` and bends towards ``pole``."""
    direction = _unit(target - start)
    distance = np.linalg.norm(target - start, axis=-1, keepdims=True)
    distance = np.clip(distance, abs(first - second) + 0.05 * first, 0.9995 * (first + second))
    along = (first ** 2 - second ** 2 + distance ** 2) / (2 * distance)
    aside = np.sqrt(first ** 2 - along ** 2)
    return start + along * direction + aside * _across(pole, direction), start + distance * direction


def pose(body, motion):
    """All joints that a layout may contain: name -> ``(T, 3)`` metres in the scene."""
    m, joints = motion, {}
    face = _rotation(1, m.heading)
    chest = _trunk(m.heading, m.twist, m.lean, m.roll)
    pelvis = _trunk(m.heading, 0.2 * m.twist, 0.4 * m.lean, 0.2 * m.roll)
    height = body.pelvis - m.drop * body.leg
    base = m.ground + np.einsum("tij,tj->ti", face, np.stack([0 * height, height, -m.shift * body.leg], axis=1))
    middle = base + _trunk(m.heading, 0.6 * m.twist, 0.8 * m.lean, 0.6 * m.roll)[..., 1] * body.spine_low
    top = middle + chest[..., 1] * body.spine_high
    neck = top + chest[..., 1] * body.neck
    skull = chest @ _rotation(1, m.look) @ _rotation(0, -m.nod)
    head = neck + skull[..., 1] * body.head
    joints.update(spine_base=base, spine_mid=middle, spine_shoulder=top, neck=neck, head=head)
    # The face in parts of the head's length: (to the right, up, forward) of the head's centre.
    for name, spot in (("nose", (0, 0, 0.7)), ("left_eye", (-0.22, 0.25, 0.6)), ("right_eye", (0.22, 0.25, 0.6)),
                       ("left_ear", (-0.52, 0.1, 0)), ("right_ear", (0.52, 0.1, 0))):
        joints[name] = head + body.head * (skull @ np.array((spot[0], spot[1], -spot[2])))
    for i, side in enumerate(SIDES):
        mirror = np.array((2 * i - 1, 1, -1))  # (outward, up, forward) -> (x, y, z)
        shoulder = top + chest @ (mirror * (body.shoulder, -0.25 * body.shoulder, 0))
        target = shoulder + body.arm * np.einsum("tij,tj->ti", chest, mirror * m.hands[i])
        if i in m.reach:
            weight, point = m.reach[i]
            target = target + weight[:, None] * (point - target)
        # Elbows bend out and down: a direction that hardly any hand is in, so that none flips over.
        bend = chest @ (mirror * (0.6, -0.6, -0.3))
        elbow, wrist = _two_bones(shoulder, target, body.upper_arm, body.forearm, bend)
        forearm = _unit(wrist - elbow)
        hand = wrist + body.hand * forearm
        joints.update({f"{side}_shoulder": shoulder, f"{side}_elbow": elbow, f"{side}_wrist": wrist,
                       f"{side}_hand": hand, f"{side}_hand_tip": hand + body.hand_tip * forearm,
                       f"{side}_thumb": hand + body.thumb * _unit(forearm - _across(bend, forearm))})

        hip = base + pelvis @ (mirror * (body.hip, -0.2 * body.hip, 0))
        target = m.ground + np.einsum("tij,tj->ti", face, mirror * (m.feet[i] * body.leg + (0, body.ankle, 0)))
        forward = face @ (mirror * (0.15, 0, 1))
        knee, ankle = _two_bones(hip, target, body.thigh, body.shin, forward)
        # A standing foot is flat; off the ground it stays square to the shin.
        free = np.clip((ankle - m.ground)[:, 1:2] - body.ankle, 0, 0.15) / 0.15
        toes = _unit((1 - free) * (forward - (0, 0.35, 0)) + free * _across(forward, _unit(ankle - knee)))
        joints.update({f"{side}_hip": hip, f"{side}_knee": knee, f"{side}_ankle": ankle,
                       f"{side}_foot": ankle + body.foot * toes})
    return joints


def curve(phase, *keys):
    """A smooth curve ``(T,)`` or ``(T, D)`` through ``keys`` of (phase, value), level before and after them.

    A cubic that never overshoots its keys (Fritsch and Carlson 1980): level at turning points and holds,
    flowing through the others. It is symmetric in time.
    """
    times = np.array([key[0] for key in keys], dtype=float)
    values = np.array([key[1] for key in keys], dtype=float)
    phase = np.clip(phase, times[0], times[-1])
    shape = (-1,) + (1,) * (values.ndim - 1)
    span = np.diff(times).reshape(shape)
    rise = np.diff(values, axis=0) / span
    before, after = rise[:-1], rise[1:]
    total = np.where(before * after > 0, before + after, 1)
    slope = np.zeros_like(values)
    slope[1:-1] = np.where(before * after > 0, 2 * before * after / total, 0)
    i = np.clip(np.searchsorted(times, phase, side="right") - 1, 0, len(times) - 2)
    width, x = span[i], phase.reshape(shape)
    x = (x - times[i].reshape(shape)) / width
    return (values[i] * (1 + 2 * x) * (1 - x) ** 2 + slope[i] * width * x * (1 - x) ** 2
            + values[i + 1] * (3 - 2 * x) * x * x - slope[i + 1] * width * x * x * (1 - x))
