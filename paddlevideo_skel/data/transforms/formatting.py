"""Transforms that give the network's array its form."""
import numpy as np

from ...errors import near_miss
from .base import TRANSFORMS, coordinates, positive, scores, truth, with_frames, wrong, zero_padded

COLLECTABLE = ("keypoint", "keypoint_score", "label", "data", "imgs", "frame_dir", "filename", "img_shape",
               "original_shape", "total_frames", "frame_inds", "num_clips")


@TRANSFORMS.register
class Iden:
    """The coordinates as they are, in float32. ``label_expand`` is PaddleVideo's; labels here need no shape."""

    def __init__(self, label_expand=True):
        truth(label_expand, "label_expand")

    def __call__(self, annotation, rng):
        return with_frames(annotation, lambda array: array)


@TRANSFORMS.register
class FormatPersons:
    """Exactly ``num_person`` persons: absent ones are zeros, and of more the first are kept.

    For networks of ``(C, T, V, M)`` fed from annotation pickles, whose samples differ in their persons.
    """

    def __init__(self, num_person):
        self.num_person = positive(num_person, "num_person")

    def __call__(self, annotation, rng):
        return with_frames(annotation, lambda array: zero_padded(array[:self.num_person], self.num_person, 0))


@TRANSFORMS.register
class FormatGCNInput:
    """The network's array ``(num_clips, M, T, V, C)``; scores still apart become the last channel.

    Args:
        num_person: M; of more persons the first are kept.
        mode: absent persons are zeros (``zero``) or copies of the only one (``loop``).
    """

    def __init__(self, num_person=2, mode="zero"):
        self.num_person = positive(num_person, "num_person")
        if mode not in ("zero", "loop"):
            raise ValueError(f"mode is {mode!r}, expected 'zero' or 'loop'")
        self.mode = mode

    def __call__(self, annotation, rng):
        keypoint, score = coordinates(annotation), scores(annotation)
        if score is not None:
            keypoint = np.concatenate([keypoint, score[..., None]], axis=-1)
        if self.mode == "loop" and len(keypoint) == 1:
            keypoint = np.repeat(keypoint, self.num_person, axis=0)
        keypoint = zero_padded(keypoint[:self.num_person], self.num_person, 0)
        persons, frames, joints, channels = keypoint.shape
        clips = annotation.num_clips
        if frames % clips:
            raise wrong(annotation, self, f"{frames} frames cannot be {clips} clips", "Is PoseDecode missing?")
        result = annotation.copy()
        clip_form = keypoint.reshape(persons, clips, frames // clips, joints, channels)
        result.array = np.ascontiguousarray(clip_form.transpose(1, 0, 2, 3, 4))
        return result


@TRANSFORMS.register
class Collect:
    """PaddleVideo's and mmaction2's last step: names what goes on. Everything goes on here; the names are checked."""

    def __init__(self, keys, meta_keys=()):
        for key in [*keys, *meta_keys] if isinstance(keys, (list, tuple)) and keys else [keys]:
            if key not in COLLECTABLE:
                raise ValueError(f"no sample has {key!r}. {near_miss(key, COLLECTABLE)}")

    def __call__(self, annotation, rng):
        return annotation
