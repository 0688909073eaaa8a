"""The export folder: its files, its metadata, its self-check, and ``derive``, which makes exports.

Needs neither paddle nor ONNX Runtime.
"""
import io
import json
import math
import os
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ConfigError, ExportError, OutputError
from ..files import is_file, parse_json, temporary_folder

EXPORT_FORMAT = 1
TOLERANCE = 1e-4
# 8-bit kernels that sum in different orders round to neighbouring steps.
INT8_TOLERANCE = 5e-2
LARGE = 1_000_000  # numbers in a sample; a clip of heatmaps has 2.6 million
OLD_METADATA = ".contract.json"  # exports of version 0.1
METADATA, SELFCHECK, PARAMS, ONNX, OM = ".metadata.json", ".selfcheck.npz", ".pdiparams", ".onnx", ".om"
GRAPHS = (".json", ".pdmodel")
# The order in which files are moved into place. The model comes last: if it exists, the export is complete.
MOVE_ORDER = (SELFCHECK, METADATA, *GRAPHS, ONNX, PARAMS, OM)
MAX_INPUT_SIZE = 1 << 30  # numbers; eight samples of PoseC3D have 409 million
MAX_SELFCHECK_BYTES = 1 << 26  # unpacked; a self-check holds a few million numbers at most
RECORDS = ("onnx", "verified", "quantization")  # metadata entries that say how the export was made
EXPORT_AGAIN = "Export the model again with tools/export_model.py or tools/minimal_export_model.py"


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
        """The input's shape. Raises ``ValueError`` if the two arrays cannot be broadcast."""
        return self.stored.shape if self.scale is None else np.broadcast_shapes(self.stored.shape, self.scale.shape)

    @property
    def array(self):
        """The input, computed on each access because it may be large."""
        return self.stored if self.scale is None else self.stored * self.scale

    def repeated(self, batch):
        """Input and logits of a whole batch, the samples repeated."""
        rows = np.arange(batch) % len(self.logits)
        return self.array[rows], self.logits[rows]

    def save(self, path):
        scale = {} if self.scale is None else {"scale": self.scale}
        np.savez_compressed(path, input=self.stored, logits=self.logits, **scale)


def is_large(shape):
    """Whether samples of this shape are too large to store whole, or to process in batches without need."""
    return math.prod(shape) > LARGE


def relative_error(found, right):
    """max |found - right| / max |right|; infinity if the shapes differ or ``found`` is not finite."""
    found, right = np.asarray(found), np.asarray(right)
    if found.shape != right.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found.astype("float64") - right).max() / max(np.abs(right).max(), 1e-12))


class ExportFolder:
    """An export: its folder, its save name and its metadata.

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
        """The Paddle graph, ``.json`` or ``.pdmodel``."""
        for ending in GRAPHS:
            if self.file(ending).is_file():
                return self.file(ending)
        raise ExportError(self.stem, "has no Paddle graph (.json or .pdmodel)", EXPORT_AGAIN)

    @property
    def params(self):
        """The weights of the Paddle graph."""
        if self.file(PARAMS).is_file():
            return self.file(PARAMS)
        raise ExportError(self.file(PARAMS), "the export's weights are missing", EXPORT_AGAIN)

    def has_graph(self):
        """Whether the export has a Paddle graph, not only an ONNX model."""
        return any(self.file(ending).is_file() for ending in GRAPHS)

    @property
    def sample_shape(self):
        """Shape of one sample, without the batch axis."""
        return tuple(self.metadata["input"]["shape"][1:])

    @property
    def batch(self):
        """The only batch size that the model accepts; None: any."""
        batch = self.metadata["input"]["shape"][0]
        return None if batch == -1 else batch

    @property
    def num_classes(self):
        return self.metadata["output"]["num_classes"]

    @property
    def other_batch(self):
        """The second batch size, after 1, at which an export for any batch size is verified."""
        return 2 if is_large(self.sample_shape) else 3

    def note(self, **entries):
        """Set entries of the metadata, here and in the file."""
        self.metadata.update(entries)
        write_metadata(self.metadata, self.file(METADATA))

    def selfcheck(self):
        """The self-check, with its shapes and values validated.

        Raises:
            ExportError: it is missing, damaged, or belongs to another model.
        """
        path = self.stem.with_name(self.metadata["selfcheck"]["file"])
        if not is_file(path):
            raise ExportError(path, "the export's self-check is missing", EXPORT_AGAIN)
        try:
            array, logits, scale = read_arrays(path, ("input", "logits", "scale"))
            selfcheck = SelfCheck(array, logits, self.metadata["selfcheck"]["tolerance"], scale)
            shape = selfcheck.shape
        except Exception as error:
            # Damaged archives make zipfile and NumPy raise unrelated exceptions.
            raise ExportError(path, f"the self-check is damaged ({type(error).__name__}: {error})",
                              EXPORT_AGAIN) from error
        arrays = [array, logits] if scale is None else [array, logits, scale]
        fits = (logits.ndim == 2 and shape == (len(logits), *self.sample_shape)
                and logits.shape[1] == self.num_classes and logits.any()
                and all(a.dtype == np.float32 and np.isfinite(a).all() for a in arrays))
        if not fits:
            raise ExportError(path, f"contains an input {shape} and logits {logits.shape}, expected "
                              f"{self.sample_shape} and {self.num_classes} classes, all finite", EXPORT_AGAIN)
        return selfcheck


def read_arrays(path, names):
    """Arrays of an ``.npz`` file by name, None for those that are missing.

    The sizes that the archive and the array headers declare are checked before memory is allocated.
    """
    with zipfile.ZipFile(path) as archive:
        found = [archive.NameToInfo.get(f"{name}.npy") for name in names]
        size = sum(info.file_size for info in found if info)
        if size > MAX_SELFCHECK_BYTES:
            raise ValueError(f"it has {size} bytes when unpacked, expected at most {MAX_SELFCHECK_BYTES}")
        return [info and _array(archive.read(info)) for info in found]


def _array(content):
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("an array has an unsupported header version")
    shape, columns_first, dtype = np.lib.format.read_array_header_1_0(file)
    # A copy, because arrays over bytes are read-only.
    return np.frombuffer(content, dtype, offset=file.tell()).reshape(shape, order="F" if columns_first else "C").copy()


def metadata_path(stem):
    """Path of an export's metadata, or its old name for exports of version 0.1."""
    new, old = (Path(stem).with_name(Path(stem).name + ending) for ending in (METADATA, OLD_METADATA))
    return old if old.is_file() and not new.is_file() else new


def read_metadata(stem):
    """The content of ``<stem>.metadata.json``, with the entries that the code relies on validated.

    Raises:
        ExportError: the file is missing or invalid.
    """
    path = metadata_path(stem)
    if not path.is_file():
        raise ExportError(path, "the export's metadata is missing", EXPORT_AGAIN)
    try:
        metadata = parse_json(path.read_text(encoding="utf-8"))
        if metadata["format"] != EXPORT_FORMAT:
            raise ExportError(path, f"has format {metadata['format']!r}, expected {EXPORT_FORMAT}", EXPORT_AGAIN)
        shape, tolerance = metadata["input"]["shape"], metadata["selfcheck"]["tolerance"]
        sizes, classes, names = shape[1:], metadata["output"]["num_classes"], metadata.get("class_names")
        sizes = sizes if shape[0] == -1 else shape
        valid = (len(shape) > 1 and all(type(n) is int and n > 0 for n in (*sizes, classes, metadata.get("top_k", 1)))
                 and math.prod(sizes) <= MAX_INPUT_SIZE and 0 < tolerance <= max_tolerance(metadata)
                 and Path(metadata["selfcheck"]["file"]).name == metadata["selfcheck"]["file"] != ""
                 and isinstance(metadata["pipeline"], dict)
                 and all(isinstance(text, str) for text in (metadata["model_name"], metadata["input"].get("name", "")))
                 and (names is None or (isinstance(names, list) and len(names) == classes
                                        and all(isinstance(name, str) for name in names)))
                 and all(isinstance(metadata.get(key), (dict, type(None))) for key in RECORDS))
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ExportError(path, f"is not valid metadata ({type(error).__name__}: {error})", EXPORT_AGAIN) from error
    if not valid:
        raise ExportError(path, "is not valid metadata: an entry has the wrong type or an invalid value", EXPORT_AGAIN)
    return metadata


def max_tolerance(metadata):
    """The largest tolerance that metadata may set."""
    quantization = metadata.get("quantization")
    in_8_bits = isinstance(quantization, dict) and quantization.get("precision") == "int8"
    return INT8_TOLERANCE if in_8_bits else TOLERANCE


def write_metadata(metadata, path):
    """Write metadata, one entry per line."""
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in metadata.items())
    try:
        Path(path).write_text("{\n" + lines + "\n}\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(path, f"cannot be written ({error.strerror})") from error


def find_export(path):
    """The export at a path, which may be its folder, its stem, or any of its files.

    ``…/inference.pdmodel`` also finds an export whose graph is ``…/inference.json``, and vice versa.

    Raises:
        ExportError: there is no export, or a folder holds several.
    """
    path = Path(path)
    if path.is_dir():
        stems = sorted({p.with_name(p.name.removesuffix(ending)) for ending in (METADATA, OLD_METADATA)
                        for p in path.glob("*" + ending)})
        if len(stems) == 1:
            return ExportFolder(stems[0])
        if not stems:
            raise ExportError(path, "contains no export", EXPORT_AGAIN)
        raise ExportError(path, f"contains several exports: {', '.join(stem.name for stem in stems)}",
                          f"Choose one, e.g. {stems[0]}.json")
    for ending in (METADATA, OLD_METADATA, SELFCHECK, PARAMS, ONNX, OM, *GRAPHS):
        if path.name.endswith(ending):
            path = path.with_name(path.name.removesuffix(ending))
            break
    there = [e for e in (*GRAPHS, ONNX, OM, METADATA, OLD_METADATA, PARAMS) if path.with_name(path.name + e).is_file()]
    if not there:
        raise ExportError(path, "export not found (.json, .pdmodel, .onnx, .om)", "Pass the path of an exported model")
    return ExportFolder(path)


def find_export_files(model, params=None):
    """The export given by ``--model_file`` and ``--params_file``.

    Raises:
        ExportError: the weights are not those of the graph.
    """
    folder = find_export(model)
    if params and Path(params).resolve() != folder.file(PARAMS).resolve():
        raise ExportError(params, f"does not belong to the model {folder.stem}",
                          f"Its weights are {folder.file(PARAMS)}")
    return folder


@contextmanager
def derive(output, name, replace=False):
    """A temporary folder in which an export, or several, are made; its files move to ``output`` when the block ends.

    In the block, write the model's file, then call ``write_export`` and ``verify``, and ``note`` the errors. Subfolders
    are scratch space. After an exception nothing is left, not even ``output`` if it is new.

    Args:
        output: folder of the export. name: save name of the export.
        replace: also delete the files of an earlier export with this name that the new one does not have.

    Raises:
        ConfigError: ``name`` is not a plain file name. OutputError: ``output`` cannot be written. Both come before the
            block runs.
    """
    if Path(name).name != name or name in ("", ".", ".."):
        raise ConfigError("--save_name", f"found {name!r}, expected a plain file name")
    output = Path(output)
    with temporary_folder(output, name) as folder:
        yield folder
        made = [path for path in folder.iterdir() if path.is_file()]
        if replace:
            for ending in (METADATA, OLD_METADATA, *GRAPHS, PARAMS, ONNX, SELFCHECK):
                if not (folder / f"{name}{ending}").is_file():
                    (output / f"{name}{ending}").unlink(missing_ok=True)
        for path in sorted(made, key=_place_in_order):
            os.replace(path, output / path.name)


def _place_in_order(path):
    return next((place for place, ending in enumerate(MOVE_ORDER) if path.name.endswith(ending)), -1)


def write_export(stem, metadata, selfcheck):
    """Write metadata and self-check for the model file at ``stem``.

    Returns:
        the ``ExportFolder``; its metadata names this self-check.
    """
    stem = Path(stem)
    file = f"{stem.name}{SELFCHECK}"
    selfcheck.save(stem.with_name(file))
    write_metadata({**metadata, "selfcheck": {**metadata["selfcheck"], "file": file}},
                   stem.with_name(stem.name + METADATA))
    return ExportFolder(stem)


def verify(export, runtime_class, options):
    """Run an export and compare its results with its self-check, at two batch sizes if it accepts any size.

    Args:
        runtime_class: subclass of ``Runtime``. options: its ``RuntimeOptions``.

    Returns:
        the open runtime, and the relative errors ``{"batch 1": error, …}`` for the metadata.

    Raises:
        SelfCheckError: a result is wrong; the message has the measured error.
    """
    runtime = runtime_class(export, options)
    if export.batch is None:
        runtime.check(export.other_batch)
    return runtime, {f"batch {batch}": error for batch, error in runtime.errors.items()}
