"""Transforms that make the model's array."""
import numpy as np

from ...errors import near_miss
from .base import (
    TRANSFORMS,
    check_bool,
    check_positive,
    get_coordinates,
    get_scores,
    sample_error,
    with_frames,
    zero_padded,
)

COLLECTABLE = ("keypoint", "keypoint_score", "label", "data", "imgs", "frame_dir", "filename", "img_shape",
               "original_shape", "total_frames", "frame_inds", "num_clips")


@TRANSFORMS.register
class Iden:
    """Convert the coordinates to float32. ``label_expand`` is PaddleVideo's argument; it has no effect."""

    def __init__(self, label_expand=True):
        check_bool(label_expand, "label_expand")

    def __call__(self, annotation, rng):
        return with_frames(annotation, lambda array: array)


@TRANSFORMS.register
class FormatPersons:
    """Make exactly ``num_person`` persons: absent persons are zeros; of more persons the first are kept.

    For models that take ``(C, T, V, M)``, with annotation pickles, whose samples differ in their persons.
    """

    def __init__(self, num_person):
        self.num_person = check_positive(num_person, "num_person")

    def __call__(self, annotation, rng):
        return with_frames(annotation, lambda array: zero_padded(array[:self.num_person], self.num_person, 0))


@TRANSFORMS.register
class FormatGCNInput:
    """Make the model's array ``(num_clips, M, T, V, C)``; scores become the last channel.

    Args:
        num_person: M; of more persons the first are kept.
        mode: absent persons are zeros (``zero``) or copies of a single person (``loop``).
    """

    def __init__(self, num_person=2, mode="zero"):
        self.num_person = check_positive(num_person, "num_person")
        if mode not in ("zero", "loop"):
            raise ValueError(f"mode is {mode!r}, expected 'zero' or 'loop'")
        self.mode = mode

    def __call__(self, annotation, rng):
        keypoint, score = get_coordinates(annotation), get_scores(annotation)
        if score is not None:
            keypoint = np.concatenate([keypoint, score[..., None]], axis=-1)
        if self.mode == "loop" and len(keypoint) == 1:
            keypoint = np.repeat(keypoint, self.num_person, axis=0)
        keypoint = zero_padded(keypoint[:self.num_person], self.num_person, 0)
        persons, frames, joints, channels = keypoint.shape
        clips = annotation.num_clips
        if frames % clips:
            raise sample_error(annotation, self, f"{frames} frames cannot be divided into {clips} clips",
                               "Add PoseDecode before it")
        result = annotation.copy()
        clip_form = keypoint.reshape(persons, clips, frames // clips, joints, channels)
        result.array = np.ascontiguousarray(clip_form.transpose(1, 0, 2, 3, 4))
        return result


@TRANSFORMS.register
class Collect:
    """The last step of PaddleVideo and mmaction2, which selects entries. Here it only checks their names."""

    def __init__(self, keys, meta_keys=()):
        for key in [*keys, *meta_keys] if isinstance(keys, (list, tuple)) and keys else [keys]:
            if key not in COLLECTABLE:
                raise ValueError(f"no sample has {key!r}. {near_miss(key, COLLECTABLE)}")

    def __call__(self, annotation, rng):
        return annotation
