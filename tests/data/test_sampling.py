"""Transforms that choose frames, against golden figures of PaddleVideo, plain loops, and closed forms."""
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import GOLDEN as GOLDEN_FOLDER
from transform_cases import make, rng, sample

from paddlevideo_skel.data.annotation import Annotation
from paddlevideo_skel.data.transforms.sampling import resize_time
from paddlevideo_skel.errors import ConfigError, DataError

GOLDEN = np.load(GOLDEN_FOLDER / "transforms.npz")


@pytest.mark.parametrize("clips", [1, 10])
def test_golden_frames(clips):
    chosen = make("UniformSampleFrames", clip_len=100, num_clips=clips, test_mode=True)(sample(1, 103, 1), rng())
    np.testing.assert_array_equal(chosen.frame_inds, GOLDEN[f"stgcnpp_test_{clips}clip_frame_inds"])
    assert chosen.num_clips == clips


def clip_in_words(clip, frames, length, clips, old):
    """pyskl's rule, clip by clip and frame by frame."""
    if frames < length:
        start = clip if frames < clips else clip * frames // clips
        return [(start + i) % frames for i in range(length)]
    if frames < 2 * length:
        gaps = set(old.choice(length + 1, frames - length, replace=False).tolist())
        chosen, frame = [], 0
        for i in range(length):
            frame += i in gaps
            chosen.append(frame + i)
        return [f % frames for f in chosen]
    bounds = [i * frames // length for i in range(length + 1)]
    sizes = np.array([b - a for a, b in itertools.pairwise(bounds)])
    return [b + int(o) for b, o in zip(bounds, old.randint(sizes), strict=False)]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 30), st.integers(1, 12), st.integers(0, 1000))
def test_uniform_sample_test_mode(frames, length, clips, seed):
    step = make("UniformSampleFrames", clip_len=length, num_clips=clips, test_mode=True, seed=seed)
    old, expected = np.random.RandomState(seed), []
    for clip in range(clips):
        expected += clip_in_words(clip, frames, length, clips, old)
    assert step(sample(1, frames, 1), None).frame_inds.tolist() == expected


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 30), st.booleans(), st.integers(0, 1000))
def test_uniform_sample_training(frames, length, even, seed):
    chosen = make("UniformSampleFrames", clip_len=length, even=even)(sample(1, frames, 1), rng(seed)).frame_inds
    assert len(chosen) == length and chosen.min() >= 0 and chosen.max() < frames
    if frames < length:
        assert np.all(np.diff(chosen) % frames == 1 % frames)
    else:
        assert np.all(np.diff(chosen) >= 1)
    if frames >= 2 * length or (even and frames >= length):
        for i, frame in enumerate(chosen):
            assert i * frames // length <= frame < (i + 1) * frames // length


def test_uniform_sample_training_reaches_every_frame():
    for frames, even in ((5, False), (14, False), (14, True), (40, False)):
        step, numbers = make("UniformSampleFrames", clip_len=10, even=even), rng()
        seen = {int(f) for _ in range(300) for f in step(sample(1, frames, 1), numbers).frame_inds}
        assert seen == set(range(frames))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 40))
def test_even_sampling(frames, length):
    step = make("UniformSampleFrames", clip_len=length, test_mode=True, even=True)
    chosen = step(sample(1, frames, 1), None).frame_inds
    if frames < length:
        assert chosen.tolist() == [i % frames for i in range(length)]
    else:
        assert chosen.tolist() == [int((i + 0.5) * frames / length + 1e-9) for i in range(length)]
        assert set(np.diff(chosen)) <= {frames // length, -(-frames // length)}


def test_even_sampling_of_several_clips_covers_more():
    step = make("UniformSampleFrames", clip_len=4, num_clips=3, test_mode=True, even=True)
    assert step(sample(1, 12, 1), None).frame_inds.tolist() == [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]


def test_pose_decode():
    annotation = sample(2, 6, 3, 2, score=True, frame_inds=np.array([4, 4, 0]))
    taken = make("PoseDecode")(annotation, rng())
    for i, frame in enumerate((4, 4, 0)):
        np.testing.assert_array_equal(taken.keypoint[:, i], annotation.keypoint[:, frame])
        np.testing.assert_array_equal(taken.keypoint_score[:, i], annotation.keypoint_score[:, frame])
    assert taken.frame_inds is None


def test_sample_frame():
    annotation = sample(frames=5)
    longer, shorter = (make("SampleFrame", window_size=n)(annotation, rng()).data for n in (8, 3))
    np.testing.assert_array_equal(longer[:, :5], annotation.data)
    assert longer.shape[1] == 8 and not longer[:, 5:].any()
    np.testing.assert_array_equal(shorter, annotation.data[:, :3])


def test_auto_padding():
    annotation = sample(frames=10)
    annotation.keypoint[:, 6:] = 0
    annotation.keypoint[:, 5] = -1  # sums to less than zero, and counts nevertheless
    padded = make("AutoPadding", window_size=20)(annotation, rng()).data
    np.testing.assert_array_equal(padded[:, :6], annotation.data[:, :6])
    assert padded.shape[1] == 20 and not padded[:, 6:].any()
    np.testing.assert_array_equal(make("AutoPadding", window_size=6)(annotation, rng()).data, annotation.data[:, :6])
    # linspace(0, 6, 4) is 0, 2, 4, 6, whose last is past the end.
    np.testing.assert_array_equal(make("AutoPadding", window_size=4)(annotation, rng()).data,
                                  annotation.data[:, [0, 2, 4, 5]])
    starts = set()
    for seed in range(60):
        placed = make("AutoPadding", window_size=8, random_pad=True)(annotation, rng(seed)).data
        begin = int(np.flatnonzero(placed.any(axis=(0, 2, 3)))[0])
        np.testing.assert_array_equal(placed[:, begin:begin + 6], annotation.data[:, :6])
        starts.add(begin)
    assert starts == {0, 1, 2}
    drawn = make("AutoPadding", window_size=4, random_pad=True)(annotation, rng(1)).data
    kept = [next(t for t in range(6) if np.array_equal(annotation.data[:, t], drawn[:, i])) for i in range(4)]
    assert kept == sorted(set(kept))


def resized_in_words(row, window):
    """Linear interpolation between the middles of frames, one number at a time."""
    result = []
    for i in range(window):
        position = min(max((i + 0.5) * len(row) / window - 0.5, 0), len(row) - 1)
        low = int(position)
        high = min(low + 1, len(row) - 1)
        result.append(row[low] + (row[high] - row[low]) * (position - low))
    return result


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40))
def test_resize_time(frames, window):
    array = rng(frames).random((2, frames, 3, 2)).astype("float32")
    resized = resize_time(array, window)
    assert resized.dtype == np.float32 and resized.shape == (2, window, 3, 2)
    np.testing.assert_allclose(resized[1, :, 2, 0], resized_in_words(array[1, :, 2, 0].tolist(), window), atol=2e-6)
    if frames == window:
        np.testing.assert_array_equal(resized, array)


def test_center_crop_bounds():
    annotation = sample(1, 30, 2, score=True, channels=2)
    annotation.keypoint[:, 20:] = 0
    cropped = make("SketeonCropSample", window_size=10, p_interval=[0.5])(annotation, rng())
    np.testing.assert_array_equal(cropped.keypoint, annotation.keypoint[:, 5:15])
    np.testing.assert_array_equal(cropped.keypoint_score, annotation.keypoint_score[:, 5:15])
    whole = make("SketeonCropSample", window_size=20)(annotation, rng())
    np.testing.assert_array_equal(whole.keypoint, annotation.keypoint[:, :20])


def test_random_crop_lengths():
    frames, step = 100, make("SketeonCropSample", window_size=50, p_interval=[0.5, 1])
    keypoint = np.broadcast_to(np.arange(1.0, frames + 1)[None, :, None, None], (1, frames, 1, 2)).astype("float32")
    lengths, begins = [], []
    for seed in range(400):
        line = step(Annotation(keypoint, name="line"), rng(seed)).keypoint[0, :, 0, 0]
        # On a straight line the resize keeps the line: its slope tells the crop's length, its middle the place.
        length = (line[30] - line[20]) / 10 * 50
        lengths.append(round(length))
        begins.append(round(float(line[24] + line[25]) / 2 - 0.5 - length / 2))
    assert min(lengths) == 64 and 96 <= max(lengths) <= 100
    # P(length = 64) is P(floor(100 p) <= 64) for p uniform in 0.5..1, that is 0.3.
    assert abs(np.mean(np.array(lengths) == 64) - 0.3) < 0.08
    assert min(begins) == 0 and max(begins) > 30
    assert all(0 <= b <= frames - n for b, n in zip(begins, lengths, strict=True))
    short = make("SketeonCropSample", window_size=7, p_interval=[0.5, 1])(sample(1, 7, 2), rng())
    np.testing.assert_array_equal(short.keypoint, sample(1, 7, 2).keypoint)  # under 64 frames nothing is cut


@pytest.mark.parametrize("name", ["AutoPadding", "SampleFrame", "SketeonCropSample"])
def test_frames_chosen_but_not_taken(name):
    with pytest.raises(ConfigError, match="before UniformSampleFrames"):
        make(name, window_size=4)(sample(frame_inds=np.array([1])), rng())
    empty = sample(frame_inds=np.array([1]))
    empty.keypoint[:, 2] = 0
    with pytest.raises(DataError, match="before UniformSampleFrames"):
        make("PreNormalize3D")(empty, rng())
