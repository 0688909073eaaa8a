"""The list of transforms from a config: annotation in, the network's array out."""
import numpy as np

from ..errors import ConfigError, DataError, near_miss
from ..registry import split_name
from .readers import check_usable
from .transforms import TRANSFORMS

SECTIONS = ("decode_sampler", "decode", "sample", "transform")
PASSING = ("Iden", "Collect")  # harmless after the array was made


class Pipeline:
    """The transforms of ``PIPELINE.train``, ``.valid`` or ``.test``, in the order of ``SECTIONS``.

    Args:
        section: mapping of ``SECTIONS`` to one step or a list of steps; a step is ``{name: X, …arguments}``,
            ``{X: {…arguments}}``, ``{X: None}`` or ``X``.
        where: file and key path, for messages.

    Raises:
        ConfigError: an unknown section, transform or argument, or a value that a transform refuses.
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
            annotation: not changed, nor are its arrays.
            rng: NumPy ``Generator``, the only source of randomness.

        Raises:
            DataError: naming the sample: it has no person, or a number that is none, or does not fit a step.
        """
        check_usable(annotation)
        name = annotation.name
        for place, step in self.steps:
            made, annotation = annotation.array, step(annotation, rng)
            if made is not None and annotation.array is made and type(step).__name__ not in PASSING:
                raise ConfigError(place, "comes after the network's array was made, and would have no effect on it",
                                  f"Put {type(step).__name__} before it")
        if annotation.frame_inds is not None:
            raise ConfigError(self.where, "UniformSampleFrames chooses frames, but nothing takes them",
                              "Add PoseDecode after it")
        if annotation.array is None and annotation.num_clips != 1:
            raise ConfigError(self.where, f"makes {annotation.num_clips} clips, but nothing forms them into an array",
                              "Add FormatGCNInput at the end, or set num_clips: 1")
        array = annotation.data if annotation.array is None else annotation.array
        array = np.ascontiguousarray(array, np.float32)
        if not np.isfinite(array).all():
            raise DataError(name or "sample", "a number became infinite or none on the way to the network",
                            "Are its coordinates in metres (3D) or pixels (2D)?")
        return array

    def __repr__(self):
        return f"Pipeline({' → '.join(type(step).__name__ for _, step in self.steps) or 'nothing'})"


def check_pipeline(section, where):
    """Check every name and argument of a pipeline's section."""
    Pipeline(section, where)


def list_steps(section, where):
    """``(name, arguments, key path)`` of every step, in the order in which they run."""
    if not isinstance(section, dict):
        raise ConfigError(where, f"found {section!r}, expected a mapping of {', '.join(SECTIONS)}")
    for key in section:
        if key not in SECTIONS:
            raise ConfigError(f"{where}.{key}", "is not a step of a pipeline", near_miss(key, SECTIONS))
    steps = []
    for key in SECTIONS:
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
    raise ConfigError(where, f"found {item!r}, expected a transform: its name, 'name: X' with arguments beside it, "
                             "or 'X:' with arguments below it")


def _plain(value):
    """Mappings and sequences as the dicts and lists that JSON has."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
