"""Transforms that choose frames."""
import numpy as np

from .base import (
    TRANSFORMS,
    check_bool,
    check_positive,
    check_real,
    need_all_frames,
    sample_error,
    with_frames,
    zero_padded,
)

MIN_CROP = 64  # frames of a random crop, as in CTR-GCN


@TRANSFORMS.register
class UniformSampleFrames:
    """Choose one frame from each of ``clip_len`` equal parts of the sequence (PoseC3D, Duan et al., CVPR 2022).

    A sequence shorter than a clip is looped; of one shorter than two clips, random frames are omitted. This step only
    chooses frames: ``PoseDecode`` takes them.

    Args:
        clip_len: frames per clip.
        num_clips: clips per sample.
        test_mode: always the same choice for a sequence of the same length, from NumPy's legacy generator with
            ``seed``, as in pyskl, mmaction2 and PaddleVideo.
        seed: of ``test_mode``.
        even: no random draws in test mode but evenly spaced frames, those of several clips interleaved, and in training
            one random frame of every part whenever the sequence is at least as long as a clip.
    """

    def __init__(self, clip_len, num_clips=1, test_mode=False, seed=255, even=False):
        self.clip_len, self.num_clips = check_positive(clip_len, "clip_len"), check_positive(num_clips, "num_clips")
        self.test_mode, self.even = check_bool(test_mode, "test_mode"), check_bool(even, "even")
        self.seed = int(check_real(seed, "seed", 0, 2**32 - 1))

    def __call__(self, annotation, rng):
        need_all_frames(annotation, self)
        frames = annotation.total_frames
        draws = np.random.RandomState(self.seed) if self.test_mode else rng
        clips = [self._clip(clip, frames, draws) for clip in range(self.num_clips)]
        result = annotation.copy()
        result.frame_inds = np.concatenate(clips) % frames
        result.num_clips = self.num_clips
        return result

    def _clip(self, clip, frames, draws):
        length, part = self.clip_len, np.arange(self.clip_len)
        integers = draws.randint if self.test_mode else draws.integers
        if frames < length:
            return part + (self._start(clip, frames) if self.test_mode else integers(0, frames))
        if self.even and self.test_mode:
            # The middle of every part; clip k of K is at (k + 1/2)/K of the part.
            return (2 * (part * self.num_clips + clip) + 1) * frames // (2 * self.num_clips * length)
        if frames < 2 * length and not self.even:
            skipped = np.zeros(length + 1, np.int64)
            skipped[draws.choice(length + 1, frames - length, replace=False)] = 1
            return part + np.cumsum(skipped)[:-1]
        bounds = np.arange(length + 1) * frames // length
        return bounds[:-1] + integers(np.diff(bounds))

    def _start(self, clip, frames):
        return clip if frames < self.num_clips and not self.even else clip * frames // self.num_clips


@TRANSFORMS.register
class PoseDecode:
    """Take the frames that a sampler chose, or all frames if there was no sampler."""

    def __call__(self, annotation, rng):
        if annotation.frame_inds is None:
            return with_frames(annotation, lambda array: array)
        result = with_frames(annotation, lambda array: array[:, annotation.frame_inds])
        result.frame_inds = None
        return result


@TRANSFORMS.register
class SampleFrame:
    """The first ``window_size`` frames, with zeros after a shorter sequence (PaddleVideo's ``stgcn_fsd``)."""

    def __init__(self, window_size):
        self.window_size = check_positive(window_size, "window_size")

    def __call__(self, annotation, rng):
        need_all_frames(annotation, self)
        return with_frames(annotation, lambda array: zero_padded(array[:, :self.window_size], self.window_size, 1))


@TRANSFORMS.register
class RandomChoose:
    """Take ``window_size`` successive frames from a random start (st-gcn's ``random_choose``).

    As in st-gcn, empty frames at the end of a sequence count.

    Args:
        window_size: number of frames.
        random_pad: put a shorter sequence at a random position among zeros; otherwise at the start.
    """

    def __init__(self, window_size, random_pad=True):
        self.window_size = check_positive(window_size, "window_size")
        self.random_pad = check_bool(random_pad, "random_pad")

    def __call__(self, annotation, rng):
        need_all_frames(annotation, self)
        window, spare = self.window_size, annotation.total_frames - self.window_size
        if spare >= 0:
            begin = int(rng.integers(0, spare + 1))
            return with_frames(annotation, lambda array: array[:, begin:begin + window])
        begin = int(rng.integers(0, 1 - spare)) if self.random_pad else 0
        return with_frames(annotation, lambda array: zero_padded(array, window, 1, begin))


@TRANSFORMS.register
class AutoPadding:
    """Make every sequence ``window_size`` frames long: pad shorter ones with zeros, omit frames of longer ones.

    Empty frames at the end do not count. PaddleVideo counts frames whose coordinates sum to more than zero, which
    cuts centred 3D data short; takes one frame past the last; and shuffles the frames it draws. Here a frame counts
    if anything in it is not zero, the last frame is the last, and drawn frames keep their order.

    Args:
        window_size: number of frames.
        random_pad: a random position among the zeros, or random frames; otherwise the start, or evenly spaced frames.
    """

    def __init__(self, window_size, random_pad=False):
        self.window_size = check_positive(window_size, "window_size")
        self.random_pad = check_bool(random_pad, "random_pad")

    def __call__(self, annotation, rng):
        need_all_frames(annotation, self)
        window = self.window_size
        filled = np.flatnonzero(annotation.keypoint.any(axis=(0, 2, 3)))
        frames = filled[-1] + 1 if filled.size else annotation.total_frames
        if frames <= window:
            begin = int(rng.integers(0, window - frames + 1)) if self.random_pad else 0
            return with_frames(annotation, lambda array: zero_padded(array[:, :frames], window, 1, begin))
        if self.random_pad:
            index = np.sort(rng.choice(frames, window, replace=False))
        else:
            index = np.minimum(np.linspace(0, frames, window).astype(np.int64), frames - 1)
        return with_frames(annotation, lambda array: array[:, index])


@TRANSFORMS.register
class SketeonCropSample:
    """Crop in time, then resize in time to ``window_size`` (CTR-GCN, Chen et al., ICCV 2021; PaddleVideo's spelling).

    Args:
        window_size: number of frames.
        crop_model: must be ``center``.
        p_interval: share of the frames to keep. ``[p]`` or ``p``: those in the middle. ``[low, high]``: a random
            segment of random length, at least 64 frames if the sequence has that many.
    """

    def __init__(self, window_size, crop_model="center", p_interval=1):
        self.window_size = check_positive(window_size, "window_size")
        if crop_model != "center":
            raise ValueError(f"crop_model is {crop_model!r}, only 'center' is known")
        interval = list(p_interval) if isinstance(p_interval, (list, tuple)) else [p_interval]
        self.p_interval = [check_real(p, "p_interval", 0, 1) for p in interval]
        if len(interval) not in (1, 2) or not 0 < self.p_interval[0] <= self.p_interval[-1]:
            raise ValueError(f"p_interval is {p_interval!r}, expected [p] or [low, high] above 0, up to 1")

    def __call__(self, annotation, rng):
        need_all_frames(annotation, self)
        # Empty frames are assumed to be at the end, as in PaddleVideo and in every published .npy set.
        frames = np.count_nonzero(annotation.keypoint.any(axis=(0, 2, 3)))
        if not frames:
            raise sample_error(annotation, self, "the sample has no person: all coordinates are 0")
        begin, length = self._crop(frames, rng)
        return with_frames(annotation, lambda array: resize_time(array[:, begin:begin + length], self.window_size))

    def _crop(self, frames, rng):
        if len(self.p_interval) == 1:
            begin = int((1 - self.p_interval[0]) * frames / 2)
            return begin, frames - 2 * begin
        part = rng.uniform(*self.p_interval)
        length = min(max(int(frames * part), MIN_CROP), frames)
        return int(rng.integers(0, frames - length + 1)), length


def resize_time(array, window):
    """``(M, T, …)`` resized to ``window`` frames, interpolated linearly; a frame's time is its middle."""
    frames = array.shape[1]
    position = np.clip((np.arange(window) + 0.5) * (frames / window) - 0.5, 0, frames - 1)
    low = position.astype(np.int64)
    high = np.minimum(low + 1, frames - 1)
    weight = (position - low).astype(np.float32).reshape(-1, *[1] * (array.ndim - 2))
    return array[:, low] * (1 - weight) + array[:, high] * weight
