"""One recording of NTU RGB+D: its file read and checked, its persons chosen, moved and turned."""
import os
import random
import tracemalloc

import numpy as np
import pytest
from raw_files import HAND_WRITTEN, JOINT, body, recording, skeleton_file, skeleton_text

from paddlevideo_skel.errors import DataError
from paddlevideo_skel.importers.ntu_bodies import (
    align_spine,
    assign_persons,
    centre_spine,
    choose_persons,
    drop_implausible,
    is_wide,
    measure_energy,
    pad_sequence,
)
from paddlevideo_skel.importers.ntu_skeleton import TrackedBody, read_bodies
from paddlevideo_skel.skeleton import get_layout

BONES = np.array(get_layout("ntu-rgb+d").bones)


# Reading


def test_a_file_written_by_hand(tmp_path):
    first, second = read_bodies(skeleton_file(tmp_path, HAND_WRITTEN))
    assert first.frames.tolist() == [0, 1] and second.frames.tolist() == [1]
    right = np.tile(np.float32([0.25, 0.5, 3.75]), (2, 25, 1))
    right[1, 24, 0] = -0.15
    np.testing.assert_array_equal(first.joints, right)
    np.testing.assert_array_equal(second.joints, right[:1])


def test_what_was_written_is_read(tmp_path):
    rng = np.random.default_rng(0)
    keypoint = rng.normal(0, 2, (2, 30, 25, 3)).astype(np.float32)
    present = rng.random((2, 30)) < 0.7
    text = skeleton_text(recording(keypoint, present=present))
    for found, right, seen in zip(read_bodies(skeleton_file(tmp_path, text)), keypoint, present, strict=True):
        assert found.frames.tolist() == np.flatnonzero(seen).tolist()
        np.testing.assert_allclose(found.joints, right[seen], rtol=5e-7)


def lines_with(number, line):
    lines = HAND_WRITTEN.split("\r\n")
    lines[number - 1] = line
    return "\n".join(lines)


BAD_FILES = {
    "nothing": ("", "empty: expected lines of numbers"),
    "blank": ("\n \n", "empty: expected lines of numbers"),
    "no frame": ("0\n", "empty: no body is seen in its 0 frames"),
    "nobody": ("3\n0\n0\n0\n", "empty: no body is seen in its 3 frames"),
    "text": ("hello\n", "damaged: line 1: found 'hello', expected the number of frames"),
    "binary": (b"\x89PNG\r\n\x1a\n\x00" * 9, "damaged: byte 0 is not text"),
    "zeros": (b"\0" * 99, "damaged: line 1: found"),
    "many frames": (lines_with(1, "999999999"), "damaged: line 1: found 999999999 frames"),
    "digits": (lines_with(1, "9" * 5000), "damaged: line 1: found '9999"),
    "minus": (lines_with(2, "-1"), "damaged: line 2: found '-1', expected the number of bodies"),
    "many bodies": (lines_with(2, "1000"), "damaged: line 2: found 1000 bodies of at least 27 lines each"),
    "no id": (lines_with(3, "1 2 3"), "damaged: line 3: found '1 2 3', expected the 10 numbers of a body"),
    "20 joints": (lines_with(4, "20"), "damaged: line 4: found 20 joints, expected 25"),
    "a word": (lines_with(7, JOINT.replace("3.75", "three")), "damaged: line 7: contains something other than numbers"),
    "11 numbers": (lines_with(8, JOINT[:-2]), "damaged: line 8: found 11 numbers, expected the 12 of a joint"),
    "13 numbers": (lines_with(8, JOINT + " 2"), "damaged: line 8: found 13 numbers, expected the 12 of a joint"),
    "a blank line": (lines_with(9, ""), "damaged: line 9: found 0 numbers, expected the 12 of a joint"),
    "NaN": (lines_with(10, JOINT.replace("0.5", "nan", 1)), "damaged: line 10: found the position 0.25, nan, 3.75"),
    "infinity": (lines_with(10, "inf" + JOINT[4:]), "damaged: line 10: found the position inf, 0.5, 3.75"),
    "far away": (lines_with(10, "1e30" + JOINT[4:]), "damaged: line 10: found the position 1e30, 0.5, 3.75"),
    "twice": (HAND_WRITTEN.replace("931102", "931101"), "damaged: line 58: duplicate body 72057594037931101"),
    "cut short": (HAND_WRITTEN[:HAND_WRITTEN.index("931102")], "damaged: line 30: found 2 bodies"),
    "a frame missing": (lines_with(1, "3"), "damaged: line 84: the file ends here, expected the number of bodies"),
    "too long": (HAND_WRITTEN + "1\n", "damaged: line 85: found '1', expected the end"),
}


@pytest.mark.parametrize("text, problem", BAD_FILES.values(), ids=BAD_FILES)
def test_bad_files(tmp_path, text, problem):
    path = skeleton_file(tmp_path, text)
    with pytest.raises(DataError) as error:
        read_bodies(path)
    assert str(error.value).startswith(f"{path}: {problem}")


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="damaged: cannot be read"):
        read_bodies(tmp_path)


def test_a_file_of_a_gigabyte_is_not_read(tmp_path):
    path = skeleton_file(tmp_path, HAND_WRITTEN)
    os.truncate(path, 1 << 30)
    tracemalloc.start()
    with pytest.raises(DataError, match="damaged: is larger than 64 MB"):
        read_bodies(path)
    assert tracemalloc.get_traced_memory()[1] < 200e6
    tracemalloc.stop()


def test_damaged_bytes_are_read_or_refused(tmp_path):
    rng, good = random.Random(0), HAND_WRITTEN.encode()
    outcomes = set()
    for _ in range(300):
        damaged = bytearray(good)
        for _ in range(rng.choice((1, 1, 3, 20))):
            place = rng.randrange(len(damaged))
            damaged[place:place + rng.choice((0, 1, 1, 9))] = rng.choice(
                (b"", b"0", b" ", b"\n", b"\r", b"\xff", b"-", b"e9", b"\x1c", b"7" * 30, bytes([rng.randrange(256)])))
        damaged = damaged[:rng.choice((len(damaged), rng.randrange(len(damaged))))]
        try:
            for found in read_bodies(skeleton_file(tmp_path, bytes(damaged))):
                assert found.joints.shape == (len(found.frames), 25, 3) and np.isfinite(found.joints).all()
            outcomes.add("read")
        except DataError as error:
            assert error.problem.startswith(("damaged: ", "empty: "))
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


# Choosing persons


def slow_choice(bodies, most):
    """The same choice by loops over frames, joints and numbers, in lists."""
    times = sorted({int(t) for b in bodies for t in b.frames})
    bodies = [{times.index(int(t)): [list(map(float, j)) for j in pose] for t, pose in zip(b.frames, b.joints)}
              for b in bodies]

    def is_wide(pose):
        xs, ys = [np.float32(j[0]) for j in pose], [np.float32(j[1]) for j in pose]
        return max(xs) - min(xs) > 0.8 * (max(ys) - min(ys))

    def motion(poses):
        total = 0
        for axis in range(3):
            values = [joint[axis] for pose in poses for joint in pose]
            mean = sum(values) / len(values)
            total += sum((value - mean)**2 for value in values) / len(values)
        return total

    bodies = [b for b in bodies if len(b) >= 12]
    if not bodies:
        return None
    shares = [sum(map(is_wide, b.values())) / len(b) for b in bodies]
    if len(bodies) > 1:
        left = [b for b, share in zip(bodies, shares) if share < 0.69754]
        bodies = left or [bodies[shares.index(min(shares))]]
    keys = []
    for b in bodies:
        usual = [pose for pose in b.values() if not is_wide(pose)]
        keys.append(min(motion(b.values()), motion(usual) if usual else 1e9))
    order = sorted(range(len(bodies)), key=lambda i: (-keys[i], i))
    persons = [[] for _ in range(most)]
    for i in order:
        for person in persons:
            if all(max(bodies[i]) < min(other) or min(bodies[i]) > max(other) for other in person):
                person.append(bodies[i])
                break
    filled = []
    for person in filter(None, persons):
        poses = {t: pose for b in person for t, pose in b.items()}
        for t in range(min(poses), max(poses)):
            poses.setdefault(t, poses.get(t - 1))
        filled.append(poses)
    start, end = min(min(p) for p in filled), max(max(p) for p in filled)
    empty = [[0.0] * 3] * 25
    return np.float32([[p.get(t, empty) for t in range(start, end + 1)] for p in filled])


def messy_bodies(seed):
    """Bodies as a camera loses and finds them: gaps, ghosts that are wide, ids that follow one another."""
    rng, bodies = np.random.default_rng(seed), []
    for _ in range(rng.integers(1, 6)):
        start, length = rng.integers(0, 40), rng.choice((5, 11, 12, 30, 60))
        frames = start + np.flatnonzero(rng.random(length) < rng.choice((0.5, 0.9, 1)))
        if not len(frames):
            continue
        size = rng.uniform(0.2, 1.2, (len(frames), 1, 3)) if rng.random() < 0.6 else np.array([0.4, 1.6, 0.3])
        pose = rng.uniform(-0.5, 0.5, (25, 3)) + rng.normal(0, rng.uniform(0.01, 0.2), (len(frames), 25, 3))
        bodies.append(TrackedBody(frames, (pose * size + (0, 0, 3)).astype(np.float32)))
    return bodies or [body(range(12))]


def test_the_choice_against_loops():
    seen = set()
    for seed in range(60):
        bodies, most = messy_bodies(seed), 1 + seed % 2
        right = slow_choice(bodies, most)
        if right is None:
            with pytest.raises(DataError, match="short: no body is seen in more than"):
                choose_persons(bodies, most)
        else:
            np.testing.assert_array_equal(choose_persons(bodies, most), right)
        seen.add(None if right is None else (len(right), len(bodies) > 2))
    assert len(seen) == 5  # one and two persons of few and many bodies, and none


def test_short_bodies_and_those_too_wide_are_dropped():
    upright, short = body(range(30)), body(range(11), seed=1)
    lying = body(range(30), upright.joints[..., [1, 0, 2]] * 2)  # moves more
    assert len(choose_persons([short, upright, lying], 2)) == 1
    np.testing.assert_array_equal(choose_persons([short, lying, upright], 2)[0], upright.joints)
    # Alone, a person may lie.
    np.testing.assert_array_equal(choose_persons([lying], 2)[0], lying.joints)
    # All lie: the one that lies in fewer frames is left.
    mixed = np.where(np.arange(30)[:, None, None] < 8, upright.joints, lying.joints)
    assert [b.joints is mixed for b in drop_implausible([lying, TrackedBody(lying.frames, mixed)])] == [True]
    with pytest.raises(DataError, match="short: no body is seen in more than 11 frames, expected at least 12"):
        choose_persons([short], 1)


def test_how_wide_a_person_may_be():
    joints = np.zeros((4, 25, 3), np.float32)
    joints[:, 0, 1] = 2
    joints[:, 0, 0] = 1.59, 1.6, 1.61, 1.7
    assert is_wide(TrackedBody(np.arange(4), joints)).tolist() == [False, False, True, True]


def test_the_share_of_wide_frames_that_drops_a_body():
    upright = body(range(1000)).joints
    for wide_frames, kept in ((697, True), (698, False)):
        joints = np.where(np.arange(1000)[:, None, None] < wide_frames, upright[..., [1, 0, 2]], upright)
        assert len(drop_implausible([body(range(1000)), body(range(1000), joints)])) == 1 + kept


def test_energy_is_the_variance_and_leaves_out_wide_frames():
    frames = body(range(20))
    energy = measure_energy(frames)
    assert energy == pytest.approx(frames.joints.astype(float).reshape(-1, 3).var(axis=0).sum(), rel=1e-9)
    joints = frames.joints.copy()
    joints[5, :, 0] *= 100
    without = np.delete(joints.astype(float), 5, axis=0).reshape(-1, 3).var(axis=0).sum()
    assert measure_energy(TrackedBody(frames.frames, joints)) == pytest.approx(without, rel=1e-9)
    np.testing.assert_allclose(measure_energy(TrackedBody(frames.frames, frames.joints * 3)), 9 * energy, rtol=1e-6)


def test_an_id_that_follows_continues_a_person_and_gaps_hold_the_last_pose():
    first, later, other = body([0, 1, 4]), body([8, 9], seed=1), body([3, 9], seed=2)
    one, two = assign_persons([first, later, other], 2)
    sources = [(first, 0), (first, 1), (first, 1), (first, 1), (first, 2), (first, 2), (first, 2), (first, 2),
               (later, 0), (later, 1)]
    np.testing.assert_array_equal(one, np.stack([b.joints[i] for b, i in sources]))
    np.testing.assert_array_equal(two[3:], np.stack([other.joints[i] for i in (0, 0, 0, 0, 0, 0, 1)]))
    assert not two[:3].any()
    # In a gap of the first, somebody else is a second person.
    assert len(assign_persons([first, body([2, 3], seed=3)], 2)) == 2
    # A third that touches both is dropped.
    assert len(assign_persons([first, later, other, body([4, 9], seed=3)], 2)) == 2


def test_frames_without_anybody_and_those_before_and_after_the_persons_are_left_out():
    shown = body([3, 4, *range(7, 20)])
    np.testing.assert_array_equal(choose_persons([shown], 1), shown.joints[None])
    ghost = body([0, 1, 2, 25, 26], seed=1)
    np.testing.assert_array_equal(choose_persons([ghost, shown], 1), shown.joints[None])


# Normalising


@pytest.fixture
def persons():
    """Two generated persons, of whom each is absent for a while."""
    rng = np.random.default_rng(5)
    keypoint = rng.uniform((-0.3, -0.8, 2.8), (0.3, 0.8, 3.2), (2, 15, 25, 3)).astype(np.float32)
    keypoint[0, :2], keypoint[1, 10:] = 0, 0
    return keypoint


def test_centring(persons):
    moved, present = centre_spine(persons), persons.any(axis=(2, 3))
    assert not moved[0, 2, 1].any() and not moved[~present].any()
    np.testing.assert_allclose(moved[present] - persons[present], np.broadcast_to(
        -persons[0, 2, 1], moved[present].shape), atol=1e-6)
    np.testing.assert_array_equal(centre_spine(moved), moved)


def test_alignment_turns_the_spine_upright_and_the_shoulders_ahead(persons):
    turned = align_spine(centre_spine(persons))
    pose = turned[0, 2].astype(float)
    spine, shoulders = pose[1] - pose[0], pose[8] - pose[4]
    np.testing.assert_allclose(spine / np.linalg.norm(spine), (0, 0, 1), atol=1e-6)
    assert shoulders[0] > 0 and abs(shoulders[1]) < 1e-6
    assert not turned[~persons.any(axis=(2, 3))].any()


def test_alignment_keeps_lengths_and_handedness(persons):
    turned = align_spine(persons)
    for keypoint in (turned, persons):
        bones = np.linalg.norm(keypoint[:, :, BONES[:, 0]] - keypoint[:, :, BONES[:, 1]], axis=-1)
        volume = np.linalg.det(keypoint[0, 2, [1, 4, 8]].astype(float))
        if keypoint is turned:
            right = bones, volume
    np.testing.assert_allclose(bones, right[0], atol=1e-6)
    assert volume == pytest.approx(right[1], rel=1e-5)


def test_alignment_undoes_any_turn_and_is_idempotent(persons):
    once = align_spine(centre_spine(persons))
    np.testing.assert_allclose(align_spine(once), once, atol=1e-6)
    matrix, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    matrix *= np.linalg.det(matrix)
    np.testing.assert_allclose(align_spine(centre_spine((persons @ matrix.T).astype(np.float32))), once, atol=2e-6)


def test_a_pose_without_directions_is_not_turned():
    flat = np.zeros((1, 3, 25, 3), np.float32)
    flat[..., 2] = 3
    np.testing.assert_array_equal(align_spine(flat), flat)


def test_arrays_of_300_frames(persons):
    for length, repeat in ((20, False), (20, True), (7, True), (7, False)):
        data = pad_sequence(persons, length, repeat)
        assert data.shape == (3, length, 25, 2) and data.dtype == np.float32
        for t in range(length):
            for m in range(2):
                right = persons[m, t % 15] if repeat or t < 15 else np.zeros((25, 3))
                np.testing.assert_array_equal(data[:, t, :, m].T, right)
    assert not pad_sequence(persons[:1], 300)[..., 1].any()
