"""Make an export's ONNX model smaller: 8 bits throughout, or weights stored in half precision.

The result is an export of its own. Both models are tested on the config's test data, the metadata records what the
rounding cost, and nothing is kept if top-1 drops by more than allowed. Needs no paddle.
"""
import logging
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .. import devices
from ..data.datasets import build_dataset
from ..data.loader import BatchLoader, sample_numbers
from ..data.pipeline import Pipeline
from ..errors import ConfigError, DataError, ExportError, OutputError, SelfCheckError, near_miss
from ..evaluation import hits
from ..inference.artifact import (
    GRAPHS,
    INT8_TOLERANCE,
    METADATA,
    ONNX,
    SELFCHECK,
    ExportFolder,
    SelfCheck,
    derive,
    is_large,
    relative_error,
    verify,
    write_export,
)
from ..inference.predict import warn_if_pipeline_differs
from ..inference.runtime import RuntimeOptions, open_runtime
from ..manifest import digest_dataset
from .onnx_convert import require_packages

logger = logging.getLogger(__name__)

WEIGHT_BITS = (7, 8)
TEST_BATCH = 8
ON_CPU = RuntimeOptions(use_gpu=False, use_npu=False)
# Kernels on other processors may round differently, by a few times the error measured here.
TOLERANCE_MARGIN, MIN_INT8_TOLERANCE = 4, 5e-3


def quantize(config, export, output, name=None, samples=100, method="minmax", tolerance=0.04, max_drop=1.0,
             weight_bits=None):
    """Make an export in 8 bits.

    Args:
        config: the ``Config``: ``DATASET.train`` to calibrate with, ``DATASET.test`` to compare on; both are prepared
            by the export's own pipeline.
        export: ``ExportFolder`` with a float32 .onnx. output: folder. name: save name; None: ``<name>_int8``.
        samples: how many to calibrate with, spread over the data set. method: one of ``CALIBRATION_METHODS``.
        tolerance: how far the logits of these samples may be from float32's, root mean square relative to their
            spread; if they are farther, the beginning of the graph stays in float32.
        max_drop: by how many points top-1 may be below the float32 model's (see ``allowed_drop``); if it drops more,
            more of the graph stays in float32.
        weight_bits: 8, or 7 for x86 processors without VNNI, which is also right with VNNI; None: what this processor
            needs.

    Returns:
        the ``ExportFolder``.

    Raises:
        ExportError: the model cannot be quantised, or loses more; nothing is kept. DataError: a sample does not fit,
            or there are no labels. UnavailableError: onnx or ONNX Runtime is missing.
    """
    require_packages("quantisation", "onnx", "onnxruntime")
    from .compact import compact
    from .qdq import CALIBRATION_METHODS, Quantizer

    if method not in CALIBRATION_METHODS:
        raise ConfigError("--method", f"found {method!r}", near_miss(method, CALIBRATION_METHODS))
    if type(samples) is not int or samples < 1:
        raise ConfigError("--samples", f"found {samples!r}, expected a positive integer")
    if not tolerance > 0:
        raise ConfigError("--tolerance", f"found {tolerance!r}, expected a number > 0")
    if weight_bits is None:
        weight_bits = weight_bits_here()
    if weight_bits not in WEIGHT_BITS:
        raise ConfigError("--weight_bits", f"found {weight_bits!r}, expected 7 or 8")
    test, calibration = TestData(config, export), CalibrationData(config, export, samples)

    def make(folder, path):
        import onnx

        quantizer = Quantizer(export.file(ONNX), folder, calibration, method, weight_bits)
        for model, left, error in quantizer.candidates(tolerance):
            compact(model)
            onnx.save(model, path)
            yield {"method": method, "weight_bits": weight_bits, "samples": len(calibration),
                   "calibration": calibration.describe(), "difference": error, "tolerance": tolerance,
                   "nodes": len(quantizer.model.graph.node), "left_in_float32": left}

    return derive_rounded(export, output, name, "int8", make, test, max_drop)


def weight_bits_here():
    """The number of weight bits with which this CPU's 8-bit products are exact."""
    return 8 if devices.multiplies_8_bits_exactly(devices.parse_cpuinfo(devices.read_cpuinfo())) else 7


def store_in_half(config, export, output, name=None, max_drop=0.0):
    """Make an export whose weights are stored in half precision: half the file, computed in float32, as fast as before.

    Args, returns, raises: see ``quantize``; ``name`` None: ``<name>_fp16``.
    """
    require_packages("quantisation", "onnx", "onnxruntime")
    from .compact import halve_weights

    return derive_rounded(export, output, name, "fp16", lambda _, path: [halve_weights(export.file(ONNX), path)],
                          TestData(config, export), max_drop)


class CalibrationData:
    """Samples spread over ``DATASET.train``, as arrays ``(1, …)`` made on demand."""

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
            check_sample_shape(array.shape, self.shape, self.dataset.names[number])
            yield array[None]

    def describe(self):
        """What identifies this data."""
        return {"section": "DATASET.train", **{key: str(value) for key, value in self.section.items()},
                "digest": digest_dataset(self.dataset)}


class TestData:
    """``DATASET.test`` of a config, prepared by an export's own pipeline."""

    __test__ = False  # not a test class for pytest

    def __init__(self, config, export):
        warn_if_pipeline_differs(config, export.metadata)
        where = config.where("DATASET.test")
        self.dataset = build_dataset(config.section("DATASET.test"), where, export.num_classes)
        if self.dataset.labels is None:
            raise DataError(where, "has no labels, so top-1 cannot be compared", "Use a test set with labels")
        self.pipeline = Pipeline(export.metadata["pipeline"], f"{export.stem}: pipeline")

    def answers(self, *exports):
        """Logits ``(N, classes)`` of each export for all samples, in ONNX Runtime on the CPU."""
        runtimes = [open_runtime(export, "onnxruntime", ON_CPU) for export in exports]
        batch = 1 if is_large(exports[0].sample_shape) else TEST_BATCH
        found = []
        with BatchLoader(self.dataset, self.pipeline, batch) as loader:
            for part in tqdm(loader.batches(0), total=len(loader), desc="comparing", unit="batch",
                             leave=False, disable=None):
                check_sample_shape(part.array.shape[1:], exports[0].sample_shape, part.names[0])
                found.append([runtime.run(part.array) for runtime in runtimes])
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]

    def cost_of_rounding(self, export, rounded):
        """What rounding cost on this data, for the metadata; accuracies in percent."""
        precision = rounded.metadata["quantization"]["precision"]
        right, found = self.answers(export, rounded)
        labels = self.dataset.labels
        top1 = {"fp32": 100 * float(hits(right, labels, 1).mean()),
                precision: 100 * float(hits(found, labels, 1).mean())}
        return {"samples": len(labels), "top1": top1, "drop_points": top1["fp32"] - top1[precision],
                "agreement": 100 * float((right.argmax(axis=1) == found.argmax(axis=1)).mean()),
                "relative_error": relative_error(found, right), "digest": digest_dataset(self.dataset)}


def check_sample_shape(found, expected, sample):
    """
    Raises:
        DataError: a sample's shape after the pipeline is not the model's.
    """
    if tuple(found) != expected:
        raise DataError(sample, f"has shape {tuple(found)} after preprocessing, but the model takes {expected}",
                        "Use the config that the model was exported with")


def derive_rounded(export, output, name, precision, make, test, max_drop):
    """Derive a rounded export: the first candidate that is accurate enough.

    Args:
        make: ``make(folder, path)`` writes one model after another, each more accurate than the previous one, and
            yields a metadata entry each time; ``folder`` is scratch space.
    """
    if export.batch is not None:
        raise ExportError(export.stem, f"takes exactly {export.batch} samples per batch",
                          "Use an export for any batch size")
    if not export.file(ONNX).is_file():
        raise ExportError(export.file(ONNX), "the export has no ONNX model yet", "Convert it with tools/paddle2onnx.py")
    if "quantization" in export.metadata:
        raise ExportError(export.stem, "is already quantized", "Use the float32 export")
    if not max_drop >= 0:
        raise ConfigError("--max_drop", f"found {max_drop!r}, expected 0 or more points")
    name, output = name or f"{export.stem.name}_{precision}", Path(output)
    if any((output / f"{name}{ending}").is_file() for ending in GRAPHS):
        raise OutputError(output / name, "is a Paddle export, whose metadata would be overwritten",
                          "Choose another --save_name")
    with derive(output, name) as folder:
        work = folder / "work"
        work.mkdir()
        tried, refused = [], None
        for details in make(work, folder / f"{name}{ONNX}"):
            entry = {"left_in_float32": details.get("left_in_float32", 0)}
            tried.append(entry)
            try:
                rounded = verify_rounded(export, folder / name, precision, details)
            except SelfCheckError as error:
                logger.info("Refused: %s", error.problem)
                entry["refused"], refused = error.problem, error
                continue
            cost = test.cost_of_rounding(export, rounded)
            entry["top1"] = cost["top1"][precision]
            logger.info("Top-1 %.2f, in float32 %.2f", cost["top1"][precision], cost["top1"]["fp32"])
            if cost["drop_points"] <= allowed_drop(max_drop, cost["samples"]):
                break
        else:
            best = max((entry["top1"] for entry in tried if "top1" in entry), default=None)
            if best is None:
                raise ExportError(name, f"the quantized model failed its self-check: {refused.problem}",
                                  "No files were kept") from refused
            raise ExportError(name, f"top-1 drops from {cost['top1']['fp32']:.2f} to {best:.2f} % of "
                              f"{cost['samples']} samples at best, more than --max_drop {max_drop:g}",
                              "No files were kept. Calibrate with more --samples, or allow more with --max_drop")
        rounded.note(quantization={**rounded.metadata["quantization"], "test": cost, "tried": tried})
        size = sum(rounded.file(ending).stat().st_size for ending in (ONNX, METADATA, SELFCHECK))
    logger.info("%s: %.2f MB; top-1 %.2f, in float32 %.2f (%d samples, the same class for %.1f %%)", output / name,
                size / 1e6, cost["top1"][precision], cost["top1"]["fp32"], cost["samples"], cost["agreement"])
    return ExportFolder(output / name)


def allowed_drop(max_drop, samples):
    """Points by which top-1 may drop: at least one sample's worth, unless ``max_drop`` is 0."""
    return max(max_drop, 100 / samples) + 1e-9 if max_drop else 0.0


def verify_rounded(export, stem, precision, details):
    """Write metadata and self-check of a rounded model, and verify it.

    The self-check's logits are the rounded model's own, computed by ONNX Runtime without optimisation: in float32,
    rounded where the model says so. A runtime that computes in integers rounds in other places; by how much the
    answers differ, at two batch sizes, gives the tolerance.

    Returns:
        the ``ExportFolder``.

    Raises:
        SelfCheckError: ONNX Runtime's optimised results are too far from these.
    """
    from ..inference.onnx_runtime import OnnxRuntime
    from .qdq import logits_of

    selfcheck, path = export.selfcheck(), stem.with_name(stem.name + ONNX)
    logits = logits_of(str(path), np.split(selfcheck.array, len(selfcheck.logits)), "self-check", optimised=False)
    metadata = {key: value for key, value in export.metadata.items() if key != "verified"}
    metadata["quantization"] = {**details, "precision": precision, "of": export.stem.name,
                                "selfcheck_difference": relative_error(logits, selfcheck.logits)}
    if precision == "int8":
        metadata["selfcheck"] = {**metadata["selfcheck"], "tolerance": INT8_TOLERANCE}
    rounded = write_export(stem, metadata, SelfCheck(selfcheck.stored, logits, scale=selfcheck.scale))
    runtime, errors = verify(rounded, OnnxRuntime, ON_CPU)
    if precision == "int8":
        tolerance = min(max(MIN_INT8_TOLERANCE, TOLERANCE_MARGIN * max(errors.values())), INT8_TOLERANCE)
        rounded.note(selfcheck={**rounded.metadata["selfcheck"], "tolerance": tolerance})
    rounded.note(onnx={**metadata.get("onnx", {}), "file": path.name, "onnxruntime": runtime.version,
                       "relative_error": errors})
    return rounded
