"""An export's ONNX model with smaller weights: 8 bits throughout, or half precision in the file alone.

What comes of it is an export of its own, with a self-check and metadata that says what the rounding cost: both models
are tested on the config's test data, and nothing is kept where top-1 drops by more than was allowed. Needs no paddle.
"""
import importlib.util
import logging
import os
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .. import devices
from ..data.datasets import build_dataset
from ..data.loader import BatchLoader, sample_numbers
from ..data.pipeline import Pipeline
from ..errors import ConfigError, DataError, ExportError, OutputError, SelfCheckError, UnavailableError, near_miss
from ..evaluation import hits
from ..files import temporary_folder
from ..inference.artifact import (
    GRAPHS,
    INT8_TOLERANCE,
    METADATA,
    ONNX,
    SELFCHECK,
    ExportFolder,
    SelfCheck,
    is_large,
    relative_error,
    write_metadata,
)
from ..inference.predict import warn_if_pipeline_differs
from ..inference.runtime import RuntimeOptions, open_runtime
from ..manifest import digest_dataset

logger = logging.getLogger(__name__)

METHODS = ("minmax", "entropy", "percentile")
WEIGHT_BITS = (7, 8)
BATCH = 8
CPU = RuntimeOptions(use_gpu=False, use_npu=False)
# Another processor's kernels may round otherwise than those compared here, by a few times as much.
MARGIN, MIN_TOLERANCE = 4, 5e-3


def quantize(config, export, output, name=None, samples=100, method="minmax", tolerance=0.04, max_drop=1.0,
             weight_bits=None):
    """Make an export in 8 bits.

    Args:
        config: the ``Config``: ``DATASET.train`` to calibrate with, ``DATASET.test`` to compare on; both are prepared
            by the export's own pipeline.
        export: ``ExportFolder`` with a float32 .onnx. output: folder. name: of the files; None: ``<name>_int8``.
        samples: how many to calibrate with, spread over the data set. method: of ``METHODS``.
        tolerance: how far the logits of these samples may be from float32's, root mean square by their spread; where
            they are farther, the beginning of the graph stays in float32.
        max_drop: by how many points top-1 may be lower than the float32 model's (see ``allowed``); where it is, more of
            the graph stays in float32.
        weight_bits: 8, or 7 for x86 processors without VNNI, which are right too where there is VNNI; None: what this
            processor needs.

    Returns:
        the ``ExportFolder``.

    Raises:
        ExportError: the model cannot be quantised, or loses more; nothing is kept. DataError: of a sample, or there are
            no labels. UnavailableError: onnx or ONNX Runtime is missing.
    """
    need_packages()
    if method not in METHODS:
        raise ConfigError("--method", f"found {method!r}", near_miss(method, METHODS))
    if type(samples) is not int or samples < 1:
        raise ConfigError("--samples", f"found {samples!r}, expected a whole number from 1")
    if not tolerance > 0:
        raise ConfigError("--tolerance", f"found {tolerance!r}, expected a number above 0")
    if weight_bits is None:
        weight_bits = weight_bits_here()
    if weight_bits not in WEIGHT_BITS:
        raise ConfigError("--weight_bits", f"found {weight_bits!r}, expected 7 or 8")
    from . import qdq

    test, calibration = TestData(config, export), Calibration(config, export, samples)

    def make(folder, path):
        import onnx

        quantizer = qdq.Quantizer(export.file(ONNX), folder, calibration, method, weight_bits)
        for model, left, error in quantizer.candidates(tolerance):
            qdq.compact(model)
            onnx.save(model, path)
            yield {"method": method, "weight_bits": weight_bits, "samples": len(calibration),
                   "calibration": calibration.describe(), "difference": error, "tolerance": tolerance,
                   "nodes": len(quantizer.model.graph.node), "left_in_float32": left}

    return derive(export, output, name, "int8", make, test, max_drop)


def weight_bits_here():
    """How many bits the weights may have for this CPU's products to be exact."""
    return 8 if devices.multiplies_8_bits_exactly(devices.parse_cpuinfo(devices.read_cpuinfo())) else 7


def shrink(config, export, output, name=None, max_drop=0.0):
    """Make an export whose weights are stored in half precision; computed is in float32, as fast as before.

    Args, returns, raises: as of ``quantize``; ``name`` None: ``<name>_fp16``.
    """
    need_packages()
    from . import float16

    test = TestData(config, export)
    return derive(export, output, name, "fp16", lambda folder, path: [float16.shrink(export.file(ONNX), path)],
                  test, max_drop)


def need_packages():
    """What a quantisation needs is installed."""
    for package in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise UnavailableError("quantisation", f"{package} is not installed", "pip install paddlevideo-skel[onnx]")


class Calibration:
    """Samples of ``DATASET.train``, spread over it, as arrays ``(1, …)`` that are made when they are asked for."""

    def __init__(self, config, export, count):
        self.section, where = config.section("DATASET.train"), config.where("DATASET.train")
        self.dataset = build_dataset(self.section, where, export.num_classes)
        self.pipeline = Pipeline(export.metadata["pipeline"], f"{export.stem}: pipeline")
        self.chosen = np.unique(np.linspace(0, len(self.dataset) - 1, count).astype(int)).tolist()
        self.shape = export.sample_shape

    def __len__(self):
        return len(self.chosen)

    def __iter__(self):
        for number in self.chosen:
            array = self.pipeline(self.dataset[number], sample_numbers(number))
            check_shape(array.shape, self.shape, self.dataset.names[number])
            yield array[None]

    def describe(self):
        """What tells this data from other."""
        return {"section": "DATASET.train", **{key: str(value) for key, value in self.section.items()},
                "digest": digest_dataset(self.dataset)}


class TestData:
    """``DATASET.test`` of a config, prepared as an export does it."""

    __test__ = False  # not one of pytest's

    def __init__(self, config, export):
        warn_if_pipeline_differs(config, export.metadata)
        where = config.where("DATASET.test")
        self.dataset = build_dataset(config.section("DATASET.test"), where, export.num_classes)
        if self.dataset.labels is None:
            raise DataError(where, "has no labels, so that top-1 cannot be compared", "Give a test set with labels")
        self.pipeline = Pipeline(export.metadata["pipeline"], f"{export.stem}: pipeline")

    def compare(self, *exports):
        """Logits ``(N, classes)`` of each export for all samples, in ONNX Runtime on the CPU."""
        runtimes = [open_runtime(export, "onnxruntime", CPU) for export in exports]
        batch = 1 if is_large(exports[0].sample_shape) else BATCH
        found = []
        with BatchLoader(self.dataset, self.pipeline, batch) as loader:
            for part in tqdm(loader.batches(0), total=len(loader), desc="comparing", unit="batch", leave=False,
                             disable=None):
                check_shape(part.array.shape[1:], exports[0].sample_shape, part.names[0])
                found.append([runtime.run(part.array) for runtime in runtimes])
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def check_shape(found, expected, sample):
    if tuple(found) != expected:
        raise DataError(sample, f"becomes {tuple(found)}, but the model takes {expected}",
                        "Use the config that the model was exported with")


def derive(export, output, name, precision, make, test, max_drop):
    """Make an export from another in a temporary folder, compare both, and move its files to their place.

    Args:
        make: ``make(folder, path)`` writes one model after the other, each more exact than the one before, and yields
            what the metadata shall say of it; the first that is good enough is taken.
    """
    if export.batch is not None:
        raise ExportError(export.stem, f"takes {export.batch} samples at once and no other number",
                          "Give the export for any batch size")
    if not export.file(ONNX).is_file():
        raise ExportError(export.file(ONNX), "the export has no ONNX model yet", "Convert it with tools/paddle2onnx.py")
    if "quantization" in export.metadata:
        raise ExportError(export.stem, "is rounded already", "Give the float32 export")
    if not max_drop >= 0:
        raise ConfigError("--max_drop", f"found {max_drop!r}, expected points from 0")
    name, output = name or f"{export.stem.name}_{precision}", Path(output)
    if Path(name).name != name or name in ("", ".", ".."):
        raise ConfigError("--save_name", f"{name!r} is no plain file name")
    if any((output / f"{name}{ending}").is_file() for ending in GRAPHS):
        raise OutputError(output / name, "is a Paddle export, whose metadata would be overwritten",
                          "Choose another --save_name")
    with temporary_folder(output, name) as temporary:
        work = temporary / "work"
        work.mkdir()
        tried, refused = [], None
        for details in make(work, temporary / f"{name}{ONNX}"):
            entry = {"left_in_float32": details.get("left_in_float32", 0)}
            tried.append(entry)
            try:
                stage = write_export(export, temporary / name, precision, details)
            except SelfCheckError as error:
                logger.info("Refused: %s", error.problem)
                entry["refused"], refused = error.problem, error
                continue
            report = compare(export, stage, test)
            entry["top1"] = report["top1"][precision]
            logger.info("Top-1 %.2f, in float32 %.2f", report["top1"][precision], report["top1"]["fp32"])
            if report["drop_points"] <= allowed(max_drop, report["samples"]):
                break
        else:
            best = max((entry["top1"] for entry in tried if "top1" in entry), default=None)
            if best is None:
                raise ExportError(name, f"the rounded model was refused: {refused.problem}",
                                  "Nothing was kept") from refused
            raise ExportError(name, f"top-1 drops from {report['top1']['fp32']:.2f} to {best:.2f} % of "
                              f"{report['samples']} samples at best, {max_drop:g} points are allowed",
                              "Nothing was kept. Calibrate with more --samples, or allow more by --max_drop")
        stage.metadata["quantization"].update(test=report, tried=tried)
        write_metadata(stage.metadata, stage.file(METADATA))
        made = sum(stage.file(ending).stat().st_size for ending in (ONNX, METADATA, SELFCHECK))
        for ending in (ONNX, SELFCHECK, METADATA):
            os.replace(stage.file(ending), output / f"{name}{ending}")
    logger.info("%s: %.2f MB; top-1 %.2f, in float32 %.2f (%d samples, the same class for %.1f %%)", output / name,
                made / 1e6, report["top1"][precision], report["top1"]["fp32"], report["samples"], report["agreement"])
    return ExportFolder(output / name)


def allowed(max_drop, samples):
    """Points by which top-1 may drop: one sample where that is more than ``max_drop``, unless that is 0."""
    return max(max_drop, 100 / samples) + 1e-9 if max_drop else 0.0


def write_export(export, stem, precision, details):
    """Metadata and self-check beside a model that was made; the answers are the rounded model's own.

    They are computed by ONNX Runtime without its optimisations: in float32, rounded where the model says so. A runtime
    that computes in integers rounds in other places; how far that leads, at two batch sizes, gives the tolerance.

    Raises:
        SelfCheckError: ONNX Runtime's optimised answers are too far from these.
    """
    from . import qdq

    selfcheck = export.selfcheck()
    path = stem.with_name(stem.name + ONNX)
    logits = qdq.logits_of(str(path), np.split(selfcheck.array, len(selfcheck.logits)), "self-check", optimised=False)
    SelfCheck(selfcheck.stored, logits, scale=selfcheck.scale).save(stem.with_name(stem.name + SELFCHECK))
    own = dict(details or {}, precision=precision, of=export.stem.name,
               selfcheck_difference=relative_error(logits, selfcheck.logits))
    metadata = {key: value for key, value in export.metadata.items() if key != "verified"}
    metadata["quantization"] = own
    metadata["selfcheck"] = {**metadata["selfcheck"], "file": f"{stem.name}{SELFCHECK}"}
    if precision == "int8":
        metadata["selfcheck"]["tolerance"] = INT8_TOLERANCE
    write_metadata(metadata, stem.with_name(stem.name + METADATA))
    stage = ExportFolder(stem)
    runtime = open_runtime(stage, "onnxruntime", CPU)
    runtime.check(stage.other_batch)
    worst = max(runtime.errors.values())
    if precision == "int8":
        metadata["selfcheck"]["tolerance"] = min(max(MIN_TOLERANCE, MARGIN * worst), INT8_TOLERANCE)
    metadata["onnx"] = {**metadata.get("onnx", {}), "file": path.name, "onnxruntime": runtime.version,
                        "relative_error": {f"batch {n}": e for n, e in runtime.errors.items()}}
    write_metadata(metadata, stage.file(METADATA))
    return ExportFolder(stem)


def compare(export, stage, test):
    """What rounding cost on the test data, as the metadata holds it; accuracies in percent."""
    precision = stage.metadata["quantization"]["precision"]
    right, found = test.compare(export, stage)
    labels = test.dataset.labels
    top1 = {"fp32": 100 * float(hits(right, labels, 1).mean()), precision: 100 * float(hits(found, labels, 1).mean())}
    return {"samples": len(labels), "top1": top1, "drop_points": top1["fp32"] - top1[precision],
            "agreement": 100 * float((right.argmax(axis=1) == found.argmax(axis=1)).mean()),
            "relative_error": relative_error(found, right), "digest": digest_dataset(test.dataset)}
