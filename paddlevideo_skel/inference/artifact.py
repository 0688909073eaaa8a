"""The export folder: its files, its metadata, its self-check. Neither paddle nor onnxruntime is needed here."""
import io
import json
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ExportError, OutputError
from ..files import is_file, parse_json

FORMAT = 1
TOLERANCE = 1e-4
# A model in 8 bits rounds to one step or the next, as the kernel adds up.
INT8_TOLERANCE = 5e-2
LARGE = 1_000_000  # numbers; a clip of heatmaps has 2.6 million of them
OLD_METADATA = ".contract.json"  # of exports made before version 0.2
METADATA, SELFCHECK, PARAMS, ONNX, OM = ".metadata.json", ".selfcheck.npz", ".pdiparams", ".onnx", ".om"
MAX_NUMBERS = 1 << 30  # of an input; eight samples of PoseC3D have 409 million
MAX_BYTES = 1 << 26  # of a self-check's arrays, which are at most some million numbers
RECORDS = ("onnx", "verified", "quantization")  # entries of metadata that say how the export was made
GRAPHS = (".json", ".pdmodel")
AGAIN = "Export the model again with tools/export_model.py or tools/minimal_export_model.py"


@dataclass
class SelfCheck:
    """An input ``(n, …)`` float32 and the dynamic graph's logits ``(n, classes)`` for it.

    A large input is the product of two small arrays, ``stored`` and ``scale``, which are broadcast to its shape.
    """
    stored: np.ndarray
    logits: np.ndarray
    tolerance: float = TOLERANCE
    scale: np.ndarray = None

    @property
    def shape(self):
        """The input's shape. Raises a ``ValueError`` where the two arrays do not fit."""
        return self.stored.shape if self.scale is None else np.broadcast_shapes(self.stored.shape, self.scale.shape)

    @property
    def array(self):
        """The input; made anew at each call, for it may be large."""
        return self.stored if self.scale is None else self.stored * self.scale

    def repeated(self, batch):
        """Input and logits of a whole batch: the samples over and over."""
        rows = np.arange(batch) % len(self.logits)
        return self.array[rows], self.logits[rows]

    def save(self, path):
        scale = {} if self.scale is None else {"scale": self.scale}
        np.savez_compressed(path, input=self.stored, logits=self.logits, **scale)


def is_large(shape):
    """Whether samples of this shape are too large to be kept whole, or several at once without need."""
    return math.prod(shape) > LARGE


def relative_error(found, right):
    """max |found - right| / max |right|; infinite where the shapes differ or a number is not finite."""
    found, right = np.asarray(found), np.asarray(right)
    if found.shape != right.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found.astype("float64") - right).max() / max(np.abs(right).max(), 1e-12))


class ExportFolder:
    """An export: the folder and the save name, with its metadata.

    Attributes:
        stem: folder and save name as one path, ``…/inference``.
        metadata: the content of ``<stem>.metadata.json``.
    """

    def __init__(self, stem):
        self.stem = Path(stem)
        self.metadata = read_metadata(self.stem)

    def file(self, ending):
        """The path of one of the files."""
        return self.stem.with_name(self.stem.name + ending)

    @property
    def graph(self):
        """The Paddle graph, in whichever form it was written."""
        for ending in GRAPHS:
            if self.file(ending).is_file():
                return self.file(ending)
        raise ExportError(self.stem, "has no graph (.json or .pdmodel)", AGAIN)

    @property
    def params(self):
        """The weights of the Paddle graph."""
        if self.file(PARAMS).is_file():
            return self.file(PARAMS)
        raise ExportError(self.file(PARAMS), "the export's weights are missing", AGAIN)

    def has_graph(self):
        """Whether there is a Paddle graph, not only an ONNX model."""
        return any(self.file(ending).is_file() for ending in GRAPHS)

    @property
    def sample_shape(self):
        """Shape of one sample, without the batch axis."""
        return tuple(self.metadata["input"]["shape"][1:])

    @property
    def batch(self):
        """The batch size of a model that takes no other; None: it takes any."""
        batch = self.metadata["input"]["shape"][0]
        return None if batch == -1 else batch

    @property
    def num_classes(self):
        return self.metadata["output"]["num_classes"]

    @property
    def other_batch(self):
        """The batch size, besides 1, at which files for any batch size are examined before anybody may use them."""
        return 2 if is_large(self.sample_shape) else 3

    def selfcheck(self):
        """The self-check, checked for shapes and numbers.

        Raises:
            ExportError: missing, damaged, or of another model.
        """
        path = self.stem.with_name(self.metadata["selfcheck"]["file"])
        if not is_file(path):
            raise ExportError(path, "the export's self-check is missing", AGAIN)
        try:
            array, logits, scale = read_arrays(path, ("input", "logits", "scale"))
            selfcheck = SelfCheck(array, logits, self.metadata["selfcheck"]["tolerance"], scale)
            shape = selfcheck.shape
        except Exception as error:
            # An archive of arrays can be damaged in any way, and zipfile and NumPy stumble over each in their own.
            raise ExportError(path, f"the self-check is damaged ({type(error).__name__}: {error})", AGAIN) from error
        arrays = [array, logits] if scale is None else [array, logits, scale]
        fits = (logits.ndim == 2 and shape == (len(logits), *self.sample_shape)
                and logits.shape[1] == self.num_classes and logits.any()
                and all(a.dtype == np.float32 and np.isfinite(a).all() for a in arrays))
        if not fits:
            raise ExportError(path, f"holds an input {shape} and logits {logits.shape}, expected "
                              f"{self.sample_shape} and {self.num_classes} classes, all finite", AGAIN)
        return selfcheck


def read_arrays(path, names):
    """Arrays of numbers of an ``.npz`` file by their names, None for those it lacks.

    The sizes that the archive and the arrays' headers announce are looked at before memory is asked for.
    """
    with zipfile.ZipFile(path) as archive:
        found = [archive.NameToInfo.get(f"{name}.npy") for name in names]
        size = sum(info.file_size for info in found if info)
        if size > MAX_BYTES:
            raise ValueError(f"it would have {size} bytes unpacked, expected at most {MAX_BYTES}")
        return [info and _array(archive.read(info)) for info in found]


def _array(content):
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("holds an array in a form that is not read")
    shape, columns_first, dtype = np.lib.format.read_array_header_1_0(file)
    # A copy: what stands in the bytes themselves cannot be written to.
    return np.frombuffer(content, dtype, offset=file.tell()).reshape(shape, order="F" if columns_first else "C").copy()


def metadata_path(stem):
    """The file of an export's metadata, under its old name where an older version made the export."""
    new, old = (Path(stem).with_name(Path(stem).name + ending) for ending in (METADATA, OLD_METADATA))
    return old if old.is_file() and not new.is_file() else new


def read_metadata(stem):
    """The content of ``<stem>.metadata.json``, with the entries that everything else relies on checked."""
    path = metadata_path(stem)
    if not path.is_file():
        raise ExportError(path, "the export's metadata is missing", AGAIN)
    try:
        metadata = parse_json(path.read_text(encoding="utf-8"))
        if metadata["format"] != FORMAT:
            raise ExportError(path, f"is of format {metadata['format']!r}, this version reads {FORMAT}", AGAIN)
        shape, tolerance = metadata["input"]["shape"], metadata["selfcheck"]["tolerance"]
        sizes, classes, names = shape[1:], metadata["output"]["num_classes"], metadata.get("class_names")
        sizes = sizes if shape[0] == -1 else shape
        valid = (len(shape) > 1 and all(type(n) is int and n > 0 for n in (*sizes, classes, metadata.get("top_k", 1)))
                 and math.prod(sizes) <= MAX_NUMBERS and 0 < tolerance <= most_tolerance(metadata)
                 and Path(metadata["selfcheck"]["file"]).name == metadata["selfcheck"]["file"] != ""
                 and isinstance(metadata["pipeline"], dict)
                 and all(isinstance(text, str) for text in (metadata["model_name"], metadata["input"].get("name", "")))
                 and (names is None or (isinstance(names, list) and len(names) == classes
                                        and all(isinstance(name, str) for name in names)))
                 and all(isinstance(metadata.get(key), (dict, type(None))) for key in RECORDS))
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ExportError(path, f"is no valid metadata ({type(error).__name__}: {error})", AGAIN) from error
    if not valid:
        raise ExportError(path, "is no valid metadata: an entry is of the wrong kind", AGAIN)
    return metadata


def most_tolerance(metadata):
    """The widest tolerance that metadata may ask for."""
    own = metadata.get("quantization")
    return INT8_TOLERANCE if isinstance(own, dict) and own.get("precision") == "int8" else TOLERANCE


def write_metadata(metadata, path):
    """Write metadata, a line an entry."""
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in metadata.items())
    try:
        Path(path).write_text("{\n" + lines + "\n}\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(path, f"cannot be written ({error.strerror})") from error


def find_export(path):
    """The export that a path means: its folder, its stem, or any one of its files.

    ``…/inference.pdmodel`` finds an export whose graph is ``…/inference.json``, and the other way round.

    Raises:
        ExportError: there is none, or a folder holds several.
    """
    path = Path(path)
    if path.is_dir():
        stems = sorted({p.with_name(p.name.removesuffix(ending)) for ending in (METADATA, OLD_METADATA)
                        for p in path.glob("*" + ending)})
        if len(stems) == 1:
            return ExportFolder(stems[0])
        problem = "holds no export" if not stems else f"holds several exports: {', '.join(s.name for s in stems)}"
        raise ExportError(path, problem, AGAIN if not stems else f"Name one, e.g. {stems[0]}.json")
    for ending in (METADATA, OLD_METADATA, SELFCHECK, PARAMS, ONNX, OM, *GRAPHS):
        if path.name.endswith(ending):
            path = path.with_name(path.name.removesuffix(ending))
            break
    there = [e for e in (*GRAPHS, ONNX, OM, METADATA, OLD_METADATA, PARAMS) if path.with_name(path.name + e).is_file()]
    if not there:
        raise ExportError(path, "no such export (.json, .pdmodel, .onnx, .om)", "Give the path of an exported model")
    return ExportFolder(path)


def find_export_files(model, params=None):
    """The export that ``--model_file`` and ``--params_file`` mean together.

    Raises:
        ExportError: the weights are not those of the graph.
    """
    folder = find_export(model)
    if params and Path(params).resolve() != folder.file(PARAMS).resolve():
        raise ExportError(params, f"does not belong to the model {folder.stem}",
                          f"Its weights are {folder.file(PARAMS)}")
    return folder
