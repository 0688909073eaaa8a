"""The list of transforms from a config: annotation in, the model's array out."""
import numpy as np

from ..errors import ConfigError, DataError, near_miss
from ..registry import split_name
from .readers import check_usable
from .transforms import TRANSFORMS

STEP_GROUPS = ("decode_sampler", "decode", "sample", "transform")
NEUTRAL_STEPS = ("Iden", "Collect")  # steps that may follow the one that makes the array


class Pipeline:
    """The transforms of ``PIPELINE.train``, ``.valid`` or ``.test``, in the order of ``STEP_GROUPS``.

    Args:
        section: mapping of ``STEP_GROUPS`` to one step or a list of steps; a step is ``{name: X, …arguments}``,
            ``{X: {…arguments}}``, ``{X: None}`` or ``X``.
        where: file and key path, for messages.

    Raises:
        ConfigError: an unknown group of steps, transform or argument, or an invalid value for a transform.
    """

    def __init__(self, section, where="PIPELINE"):
        self.where = where
        self.steps = []
        for name, arguments, place in list_steps(section, where):
            self.steps.append((place, TRANSFORMS.build(name, arguments, place)))
        self.spec = _plain(section)

    def __call__(self, annotation, rng):
        """The array of a sample, float32 in C order: ``annotation.array`` if a step made one, else ``.data``.

        Args:
            annotation: the sample; neither it nor its arrays are changed.
            rng: NumPy ``Generator``, the only source of randomness.

        Raises:
            DataError: naming the sample: it has no person, holds NaN or infinity, or does not fit a step.
        """
        check_usable(annotation)
        name = annotation.name
        for place, step in self.steps:
            made, annotation = annotation.array, step(annotation, rng)
            if made is not None and annotation.array is made and type(step).__name__ not in NEUTRAL_STEPS:
                raise ConfigError(place, "comes after the step that makes the model's array, so it would have no "
                                  "effect",
                                  f"Put {type(step).__name__} before it")
        if annotation.frame_inds is not None:
            raise ConfigError(self.where, "UniformSampleFrames selects frame indices, but no step takes the frames",
                              "Add PoseDecode after it")
        if annotation.array is None and annotation.num_clips != 1:
            raise ConfigError(self.where, f"makes {annotation.num_clips} clips, but no step turns them into an array",
                              "Add FormatGCNInput at the end, or set num_clips: 1")
        array = annotation.data if annotation.array is None else annotation.array
        array = np.ascontiguousarray(array, np.float32)
        if not np.isfinite(array).all():
            raise DataError(name or "sample", "the pipeline produced NaN or infinity",
                            "Check that its coordinates are metres (3D) or pixels (2D)")
        return array

    def __repr__(self):
        return f"Pipeline({' → '.join(type(step).__name__ for _, step in self.steps) or 'nothing'})"


def check_pipeline(section, where):
    """Check every name and argument in a pipeline's section."""
    Pipeline(section, where)


def list_steps(section, where):
    """``(name, arguments, key path)`` of every step, in the order in which they run."""
    if not isinstance(section, dict):
        raise ConfigError(where, f"found {section!r}, expected a mapping of {', '.join(STEP_GROUPS)}")
    for key in section:
        if key not in STEP_GROUPS:
            raise ConfigError(f"{where}.{key}", "is not a group of steps", near_miss(key, STEP_GROUPS))
    steps = []
    for key in STEP_GROUPS:
        given = section.get(key)
        if isinstance(given, (list, tuple)):
            steps += [(*_step(item, f"{where}.{key}.{i}"), f"{where}.{key}.{i}") for i, item in enumerate(given)]
        elif given is not None:
            steps.append((*_step(given, f"{where}.{key}"), f"{where}.{key}"))
    return steps


def _step(item, where):
    if isinstance(item, str):
        return item, {}
    if isinstance(item, dict) and "name" in item:
        return split_name(item, where)
    if isinstance(item, dict) and len(item) == 1:
        (name, arguments), = item.items()
        return name, {} if arguments is None else arguments
    raise ConfigError(where, f"found {item!r}, expected a transform: its name, 'name: X' with arguments next to it, "
                             "or 'X:' with arguments below it")


def _plain(value):
    """A copy with the dicts and lists of JSON."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
