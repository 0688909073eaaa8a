"""The choreography of every action of the sample set.

Each action is a function of a ``Performance``, which writes curves into the ``Motion`` of one or two actors. All random
numbers come from the performance's generator: the same seed gives the same performance.
"""
import numpy as np

from .kinematics import FPS, HANG, LEFT, RIGHT, Motion, curve, pose


class Performance:
    """One performance: the actors with their bodies, and everything that varies between performances.

    Attributes:
        time: ``(T,)`` seconds.
        phase: ``(T,)`` progress of a single action from 0 to 1, with a pause before and after.
        amount: factor of the movements' extent, about 1.
        side: the hand or foot that acts.
    """

    def __init__(self, num_frames, bodies, rng):
        self.rng, self.bodies = rng, bodies
        self.time = np.arange(num_frames) / FPS
        first, last = rng.uniform(0, 0.2), 1 - rng.uniform(0, 0.2)
        progress = np.clip((np.linspace(0, 1, num_frames) - first) / (last - first), 0, 1)
        self.phase = progress + rng.uniform(-0.08, 0.08) * np.sin(2 * np.pi * progress)  # uneven tempo
        self.amount, self.side = rng.uniform(0.8, 1.15), int(rng.integers(2))
        self.actors = [Motion(num_frames, rng) for _ in bodies]

    def near(self, *target):
        """A target with a small random offset."""
        return np.array(target) + self.rng.normal(0, 0.04, len(target))

    def cycles(self, low, high):
        """Angle ``(T,)`` of a movement that repeats at ``low`` to ``high`` Hz, at least 1.5 times."""
        count = max(1.5, self.rng.uniform(low, high) * self.time[-1])
        return 2 * np.pi * (self.rng.uniform() + count * np.linspace(0, 1, len(self.time)))

    def again(self, seconds):
        """The phase of an action of ``seconds``, repeated at random, as time allows and at most three times."""
        most = int(np.clip(0.6 * self.time[-1] / seconds, 1, 3))  # pauses take up to 0.4 of the time
        return self.phase * self.rng.integers(1, most + 1) % 1

    def held(self):
        """A weight ``(T,)`` that rises, stays at 1, and usually falls again."""
        rise, fall = self.rng.uniform(0.12, 0.25), self.rng.uniform(0.75, 0.88)
        return curve(self.phase, (0, 0), (rise, 1), (fall, 1), (1, float(self.rng.random() < 0.3)))

    def lead(self, actor, side, weight, target):
        """Move a hand of ``actor`` towards a target in arm lengths, by ``weight`` ``(T,)``."""
        actor.hands[side] += weight[:, None] * (target - actor.hands[side])

    def face_each_other(self, distance):
        """Place two actors at ``distance`` ``(T,)`` metres; their feet step while it changes."""
        speed = np.abs(np.gradient(distance)) * FPS
        step = 2 * np.pi * 1.6 * self.time
        for i, actor in enumerate(self.actors):
            actor.ground[:, 0] = (i - 0.5) * distance
            actor.heading += (i - 0.5) * np.pi
            for side in (LEFT, RIGHT):
                lift = np.maximum(0, np.sin(step + side * np.pi))
                actor.feet[side][:, 1] += 0.12 * np.clip(speed / 0.5, 0, 1) * lift


def wave(s):
    swing = np.sin(s.cycles(1.4, 2.6))
    target = s.near(0.5, 0.5, 0.3) + np.outer(swing, (0.3 * s.amount, 0, 0))
    target[:, 1] -= 0.1 * s.amount * swing ** 2
    s.lead(s.actors[0], s.side, s.held(), target)


def clap(s):
    actor, body, weight = s.actors[0], s.bodies[0], s.held()
    opening = 0.5 - 0.5 * np.cos(s.cycles(1.5, 3))
    closed, height = 0.03 - body.shoulder / body.arm, s.rng.uniform(-0.25, 0.1)
    target = np.stack([closed + 0.5 * s.amount * opening, 0 * opening + height, 0.62 - 0.1 * opening], axis=1)
    for side in (LEFT, RIGHT):
        s.lead(actor, side, weight, target)


def punch(s):
    actor, weight, phase = s.actors[0], s.held(), s.again(0.9)
    strike = curve(phase, (0, 0), (0.3, -0.1), (0.5, 1), (0.62, 1), (1, 0))
    guard = s.near(-0.1, 0.0, 0.42)
    sign = 2 * s.side - 1
    s.lead(actor, s.side, weight, guard + np.outer(strike, (-0.2, 0.05, 0.57)))
    s.lead(actor, 1 - s.side, weight, s.near(-0.1, 0.0, 0.42))
    actor.twist += weight * sign * 0.45 * s.amount * (strike - 0.3)
    actor.lean += weight * (0.05 + 0.12 * strike)
    actor.feet[s.side][:, 2] -= 0.3 * weight
    actor.feet[1 - s.side][:, 2] += 0.2 * weight
    actor.drop += 0.06 * weight


def kick(s):
    actor, phase = s.actors[0], s.again(1.2)
    height = s.rng.uniform(0.35, 0.75) * s.amount
    actor.feet[s.side] += curve(phase, (0, (0, 0, 0)), (0.18, (0, 0.08, -0.35)), (0.38, (-0.05, 0.35, 0.15)),
                                (0.52, (-0.08, height, 0.85)), (0.6, (-0.08, height, 0.85)),
                                (0.78, (0, 0.25, 0.1)), (1, (0, 0, 0)))
    out = curve(phase, (0, 0), (0.2, 0.3), (0.5, 1), (0.7, 0.8), (1, 0))
    actor.lean -= 0.28 * s.amount * out
    actor.shift += 0.05 * out
    for side in (LEFT, RIGHT):
        s.lead(actor, side, 0.8 * out, s.near(0.55, -0.55, 0.25))


def squat(s):
    actor, phase = s.actors[0], s.again(1.4)
    down = curve(phase, (0, 0), (0.42, 1), (0.55, 1), (1, 0))
    depth = np.clip(0.5 * s.amount, 0.35, 0.56)
    actor.drop += depth * down
    actor.shift -= 0.28 * down
    actor.lean += 0.62 * down
    actor.nod -= 0.4 * down
    actor.feet[..., 0] += 0.1
    target = s.near(0.0, 0.55, 0.75) if s.rng.random() < 0.7 else s.near(-0.2, 0.1, 0.5)
    for side in (LEFT, RIGHT):
        s.lead(actor, side, down, target)


def jump(s):
    actor, phase = s.actors[0], s.again(0.9)
    actor.ground[:, 1] = s.rng.uniform(0.18, 0.38) * s.amount * np.sin(np.pi * np.clip((phase - 0.35) / 0.35, 0, 1))
    crouch = curve(phase, (0, 0), (0.22, 1), (0.36, 0), (0.69, 0), (0.8, 0.9), (1, 0))
    actor.drop += 0.22 * crouch
    actor.lean += 0.5 * crouch
    actor.shift -= 0.12 * crouch
    high = s.rng.uniform(-0.2, 0.9) * s.amount
    up = curve(phase, (0, HANG), (0.2, (0.12, -0.8, -0.4)), (0.3, (0.12, -0.85, 0.25)), (0.45, (0.2, high, 0.6)),
               (0.65, (0.3, high - 0.4, 0.6)), (0.82, (0.2, -0.8, 0.3)), (1, HANG))
    actor.hands += up - HANG
    # In the air the legs hang: toes down, knees loose.
    actor.feet[..., 1] += 0.1 * np.sin(np.pi * np.clip((phase - 0.38) / 0.28, 0, 1))


def bow(s):
    actor = s.actors[0]
    down = s.amount * curve(s.phase, (0, 0), (0.4, 1), (s.rng.uniform(0.5, 0.65), 1), (1, 0))
    actor.lean += s.rng.uniform(0.7, 1.2) * down
    actor.shift -= 0.15 * down
    actor.nod += 0.35 * down
    if s.rng.random() < 0.4:  # hands folded instead of at the sides
        for side in (LEFT, RIGHT):
            s.lead(actor, side, np.minimum(1, down), s.near(-0.2, -0.75, 0.35))


def walk(s):
    actor, body = s.actors[0], s.bodies[0]
    angle = s.cycles(0.75, 1.15)
    turns = (angle - angle[0]) / (2 * np.pi)
    stance = 0.6  # a foot is on the ground for this part of a cycle
    # The path must fit the camera's view: long sequences have shorter steps.
    reach = min(0.36 * s.amount * body.leg, 1.8 * stance / (2 * turns[-1]))
    travelled = turns * 2 * reach / stance
    actor.ground[:, 2] = travelled[-1] / 2 - travelled
    for side in (LEFT, RIGHT):
        part = (angle / (2 * np.pi) + 0.5 * side) % 1
        swing = np.clip((part - stance) / (1 - stance), 0, 1)
        forward = np.where(part < stance, 1 - 2 * part / stance, 2 * swing * swing * (3 - 2 * swing) - 1)
        actor.feet[side][:, 2] += reach / body.leg * forward
        actor.feet[side][:, 1] += (0.08 + 0.1 * reach / body.leg) * np.sin(np.pi * swing)
        actor.hands[1 - side] += np.outer(forward, (0, 0.06, 0.35 * s.amount)) + (0, 0.05, 0.05)
    actor.drop += 0.03 + 0.02 * np.cos(2 * angle)
    actor.twist += 0.1 * np.sin(angle)
    actor.lean += 0.05


def throw(s):
    actor, phase, sign = s.actors[0], s.again(1.6), 2 * s.side - 1
    hand = np.stack([HANG, s.near(0.6, -0.35, 0.35), s.near(0.45, 0.3, -0.3), s.near(0.3, 0.6, -0.15),
                     s.near(-0.05, 0.45, 0.85), s.near(-0.45, -0.45, 0.6), HANG])
    times = (0, 0.18, 0.35, 0.45, 0.57, 0.7, 1)
    actor.hands[s.side] += curve(phase, *zip(times, hand)) - HANG
    actor.twist += sign * s.amount * curve(phase, (0, 0), (0.4, -0.6), (0.6, 0.45), (0.7, 0.5), (1, 0))
    actor.lean += s.amount * curve(phase, (0, 0), (0.4, -0.18), (0.65, 0.4), (1, 0))
    s.lead(actor, 1 - s.side, curve(phase, (0, 0), (0.38, 1), (0.65, 0), (1, 0)), s.near(0.2, 0.05, 0.85))
    step = curve(phase, (0, (0, 0, 0)), (0.36, (0, 0.12, 0.15)), (0.5, (0, 0, 0.4)), (0.72, (0, 0, 0.4)),
                 (1, (0, 0, 0)))
    actor.feet[1 - s.side] += step
    actor.shift += 0.4 * step[:, 2]
    actor.drop += 0.15 * step[:, 2]


def sit_down(s):
    actor, body = s.actors[0], s.bodies[0]
    seat = s.rng.uniform(0.46, 0.54) * body.thigh / (0.5 * body.leg)  # thighs about level
    down = curve(s.phase, (0.1, 0), (0.85, 1))
    actor.drop += seat * down
    actor.shift -= 0.44 * down
    actor.lean += s.rng.uniform(-0.1, 0.12) * down + 0.6 * s.amount * curve(s.phase, (0, 0), (0.45, 1), (1, 0))
    lap = s.near(-0.05, -0.62, 0.5)
    for side in (LEFT, RIGHT):
        s.lead(actor, side, curve(s.phase, (0.2, 0), (0.95, 1)), lap)


def raise_arms(s):
    high, wide = s.rng.uniform(0.75, 1), s.rng.random() < 0.5
    halfway = s.near(0.9, 0.05, 0.2) if wide else s.near(0.1, 0.05, 0.92)
    overhead = s.near(0.2, high, 0.1)
    actor = s.actors[0]
    actor.hands += curve(s.phase, (0, HANG), (0.5, halfway), (1, overhead)) - HANG
    actor.nod -= 0.25 * curve(s.phase, (0.3, 0), (1, 1))


def turn_around(s):
    actor, sign = s.actors[0], 2 * s.side - 1
    turned = curve(s.phase, (0, 0), (1, 1))
    actor.heading += sign * np.pi * s.rng.uniform(0.85, 1.1) * turned
    actor.twist += sign * 0.35 * np.sin(np.pi * turned)
    actor.look += sign * 0.5 * np.sin(np.pi * np.clip(1.4 * s.phase, 0, 1))
    moving = np.sin(np.pi * np.clip(s.phase, 0, 1))
    step = 2 * np.pi * s.phase * s.rng.integers(2, 4)
    for side in (LEFT, RIGHT):
        actor.feet[side][:, 1] += 0.14 * moving * np.maximum(0, np.sin(step + side * np.pi))
        actor.feet[side][:, 2] += 0.12 * moving * np.sin(step + side * np.pi)


def push(s):
    pusher, pushed = s.actors
    shove = curve(s.phase, (0, 0), (0.3, 0.1), (0.5, 1), (0.65, 1), (1, 0))
    recoil = curve(s.phase, (0.42, 0), (0.65, 1), (0.8, 1), (1, 0.8))
    near = 0.75 * s.bodies[0].arm + 0.25
    s.face_each_other(near + 0.5 * s.rng.uniform(0.4, 1) * recoil + curve(s.phase, (0, 0.25), (0.35, 0)))
    for side in (LEFT, RIGHT):
        s.lead(pusher, side, curve(s.phase, (0, 0), (0.3, 1), (0.7, 1), (1, 0)), s.near(-0.12, -0.15, 0.4))
        pusher.hands[side] += np.outer(shove, (0, 0.15, 0.5))
        s.lead(pushed, side, recoil * curve(s.phase, (0.6, 1), (1, 0.2)), s.near(0.45, -0.3, 0.5))
    pusher.lean += 0.3 * s.amount * shove
    pusher.shift += 0.12 * shove
    pusher.feet[s.side][:, 2] += 0.3 * shove
    pushed.lean -= 0.3 * s.amount * curve(s.phase, (0.42, 0), (0.58, 1), (1, 0))
    pushed.nod += 0.2 * recoil


def handshake(s):
    apart = curve(s.phase, (0, s.rng.uniform(0, 0.4)), (0.25, 0), (0.85, 0), (1, s.rng.uniform(0, 0.3)))
    s.face_each_other(0.72 * sum(b.arm for b in s.bodies) + 0.2 + apart)
    weight = curve(s.phase, (0.02, 0), (0.3, 1), (0.75, 1), (1, 0))
    shaking = 0.06 * s.amount * np.sin(s.cycles(2, 3.5)) * curve(s.phase, (0.28, 0), (0.35, 1), (0.7, 1), (0.78, 0))
    height = s.rng.uniform(0.55, 0.64) * np.mean([b.height for b in s.bodies])
    _meet(s, weight, height + shaking, 1)


def high_five(s):
    apart = curve(s.phase, (0, s.rng.uniform(0.1, 0.5)), (0.4, 0), (0.6, 0), (1, s.rng.uniform(0.1, 0.4)))
    s.face_each_other(0.64 * sum(b.arm for b in s.bodies) + 0.05 + apart)
    weight = curve(s.phase, (0.05, 0), (0.45, 1), (0.55, 1), (1, 0))
    height = s.rng.uniform(0.92, 1.04) * min(b.height for b in s.bodies)  # within reach of the smaller one
    _meet(s, weight, 0 * weight + height, 0.4)  # palms, not finger tips
    for actor in s.actors:  # they swing out before the hands meet
        actor.hands[s.side] += np.outer(curve(s.phase, (0.05, 0), (0.25, 1), (0.45, 0)), (0.25, 0.9, 0))


def _meet(s, weight, height, apart):
    """Let the acting hands meet between both actors, at ``height`` ``(T,)`` metres, wrists ``apart`` hands away."""
    aside = s.rng.uniform(-0.05, 0.05)
    for i, (actor, body) in enumerate(zip(s.actors, s.bodies)):
        gap = (2 * i - 1) * apart * body.hand
        point = np.stack([0 * height + gap, height, 0 * height + aside], axis=1)
        actor.reach[s.side] = (weight, point)
        actor.twist += (2 * s.side - 1) * 0.2 * weight


def hug(s):
    near = s.rng.uniform(0.26, 0.34)
    distance = curve(s.phase, (0, s.rng.uniform(0.8, 1.2)), (0.4, near), (0.75, near), (1, s.rng.uniform(0.5, 1)))
    s.face_each_other(distance)
    hold = curve(s.phase, (0.3, 0), (0.5, 1), (0.7, 1), (0.95, 0))
    spread = curve(s.phase, (0.05, 0), (0.3, 1), (0.78, 1), (0.98, 0))
    for i, actor in enumerate(s.actors):
        other = s.bodies[1 - i]
        forward = 1 - 2 * i  # along x
        actor.lean += 0.12 * hold
        actor.look += (2 * s.side - 1) * 0.3 * hold
        for side in (LEFT, RIGHT):
            s.lead(actor, side, spread, s.near(0.45, -0.1, 0.7))
            # One arm over the other actor's shoulder, one below the arm, so that they do not collide.
            share = 0.72 if side == s.side else 0.6
            out = (2 * side - 1) * forward * 0.07
            behind = actor.ground[:, 0] + forward * (distance + 0.04)
            point = np.stack([behind, np.full_like(behind, share * other.height), np.full_like(behind, out)], axis=1)
            actor.reach[side] = (hold, point)


_PERFORMANCES = {f.__name__: f for f in (wave, clap, punch, kick, squat, jump, bow, walk, throw, sit_down, raise_arms,
                                         turn_around, push, handshake, high_five, hug)}
# These are other actions in reverse: only the order of the frames distinguishes the two.
REVERSED = {"stand_up": "sit_down", "lower_arms": "raise_arms"}
PAIRS = ("push", "handshake", "high_five", "hug")
ACTIONS = ("wave", "clap", "punch", "kick", "squat", "jump", "bow", "walk", "throw", "sit_down", "stand_up",
           "raise_arms", "lower_arms", "turn_around", "push", "handshake", "high_five", "hug")


def perform(action, bodies, num_frames, rng):
    """Joints of every actor, a list of name → ``(T, 3)`` metres; the floor is y = 0, the scene's middle x = z = 0.

    Args:
        action: one of ``ACTIONS``.
        bodies: one ``Body``, or two for the actions in ``PAIRS``.
        num_frames: T, at ``FPS`` frames per second.
        rng: NumPy ``Generator``, the only source of randomness.
    """
    stage = Performance(num_frames, bodies, rng)
    _PERFORMANCES[REVERSED.get(action, action)](stage)
    figures = [pose(body, actor) for body, actor in zip(bodies, stage.actors)]
    if action in REVERSED:
        figures = [{name: points[::-1] for name, points in figure.items()} for figure in figures]
    return figures
