"""Runtimes: run an export, but only after its self-check has passed.

Paddle Inference with oneDNN returns wrong numbers for some of these graphs, converters write wrong graphs, and files
get mixed up, all without an error. Every runtime therefore runs the self-check when it is opened, and again for each
new batch size. The check cannot be switched off.
"""
import importlib
import logging
import time
from dataclasses import dataclass, replace

import numpy as np

from ..errors import ConfigError, DataError, SelfCheckError, UnavailableError, near_miss
from ..workers import available_cores
from .artifact import ExportFolder, find_export, relative_error

logger = logging.getLogger(__name__)

RUNTIMES = {"paddle": ("paddle_runtime", "PaddleRuntime"), "onnxruntime": ("onnx_runtime", "OnnxRuntime"),
         "om": ("om_runtime", "OmRuntime")}
HOW_TO_GET = {"paddle": "pip install paddlepaddle",
              "onnxruntime": "pip install onnxruntime; for a build against NumPy 1, such as "
                             "onnxruntime-cann 1.24: pip install 'numpy<2'",
              "om": "pip install numpy"}
PRECISIONS = ("fp32", "fp16", "bf16")
# Half precision rounds to 2^-11 or 2^-8 in every layer; these are the total errors allowed. They are so wide that a
# wrong model can pass, so it must be verified in float32 first: ``Runtime.verify_float32``.
ROUNDING_TOLERANCE = {"fp16": 5e-3, "bf16": 4e-2}
# A smaller error means that the runtime computed in float32, not in half precision.
FLOAT32_ERROR = 1e-5


@dataclass(frozen=True)
class RuntimeOptions:
    """What a runtime uses. ``None``: whatever is available; ``True`` is an error if it is not available.

    Attributes:
        cpu_threads: threads per answer; None: all cores of this process. gpu_mem: MB reserved on a GPU.
        enable_mkldnn: oneDNN; None: whatever is best for the export.
        precision: ``fp32``, ``fp16`` or ``bf16``. device_id: number of the GPU or NPU.
    """
    use_gpu: bool = None
    use_npu: bool = None
    enable_mkldnn: bool = None
    cpu_threads: int = None
    precision: str = "fp32"
    use_tensorrt: bool = False
    ir_optim: bool = True
    gpu_mem: int = 8000
    device_id: int = 0

    def __post_init__(self):
        if self.precision not in PRECISIONS:
            raise ConfigError("--precision", f"unknown precision {self.precision!r}",
                              near_miss(self.precision, PRECISIONS))
        for name in ("cpu_threads", "gpu_mem"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise ConfigError(f"--{name}", f"expected a positive integer, got {value!r}")
        if type(self.device_id) is not int or self.device_id < 0:
            raise ConfigError("--device_id", f"expected an integer >= 0, got {self.device_id!r}")
        if self.use_gpu and self.use_npu:
            raise ConfigError("--use_gpu", "both a GPU and an NPU were requested", "Choose one")

    @property
    def threads(self):
        if self.cpu_threads:
            return self.cpu_threads
        return available_cores()


class Runtime:
    """An opened export; a context manager.

    Subclasses implement ``load() -> device``, ``compute(array) -> logits`` and ``files``. If the export takes one batch
    size only (``export.batch``), ``compute`` is called with no other.

    Attributes:
        kind: its name on the command line.
        device: where it computes, e.g. ``"cpu"``.
        onednn: whether oneDNN is used; ``load`` decides if the options leave it open.
        errors: batch size → relative error of the self-check.
        seconds: time of ``compute`` in the last ``run``.
        inference_config: Paddle Inference's config, which AutoLog reads; None in other runtimes.
    """

    kind = version = inference_config = None

    def __init__(self, export, options):
        self.export, self.options, self.onednn = export, options, bool(options.enable_mkldnn)
        self.selfcheck = export.selfcheck()
        self.tolerance = ROUNDING_TOLERANCE.get(options.precision, self.selfcheck.tolerance)
        self.errors, self.seconds = {}, 0.0
        try:
            self.device = self.load()
            self.check(export.batch or 1)
        except (RuntimeError, ValueError, OSError) as error:
            self.close()
            raise SelfCheckError(self.label, f"cannot open the model: {first_line(error)}", self.advice()) from error
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Release what ``load`` acquired; may be called again."""

    @classmethod
    def verify_float32(cls, export, options):
        """Check the model in float32 before its half-precision results are trusted.

        Raises:
            SelfCheckError: its results are wrong.
        """
        with cls(export, replace(options, precision="fp32")):
            pass

    @property
    def files(self):
        """The files that hold the model; their content identifies it."""
        raise NotImplementedError

    @property
    def label(self):
        return f"{self.export.stem} in {self.kind}"

    def load(self):
        """Load the model; returns the device."""
        raise NotImplementedError

    def compute(self, array):
        """Logits of a batch, not checked."""
        raise NotImplementedError

    def compute_timed(self, array):
        """The result of ``compute``, and its time in seconds."""
        start = time.perf_counter()
        logits = self.compute(array)
        return logits, time.perf_counter() - start

    def check(self, batch):
        """Answer the self-check with ``batch`` samples.

        Raises:
            SelfCheckError: with the error, the tolerance, and the options that are known to work.
        """
        array, logits = self.selfcheck.repeated(batch)
        try:
            error = relative_error(self.compute(array), logits)
        except (RuntimeError, ValueError) as failure:
            raise SelfCheckError(self.label, f"raised an error in its self-check at batch size {batch}: "
                                 f"{first_line(failure)}",
                                 self.advice()) from failure
        if not error <= self.tolerance:
            raise SelfCheckError(
                self.label, f"fails its self-check at batch size {batch}: relative error {error:.2g}, "
                f"allowed {self.tolerance:.0e}", self.advice())
        if self.options.precision != "fp32" and error < FLOAT32_ERROR:
            raise UnavailableError(f"--precision {self.options.precision}", f"is ignored: {self.kind} computes in "
                                   f"float32 (relative error {error:.1g})", "Use --precision fp32")
        self.errors[batch] = error

    def run(self, array):
        """Logits ``(n, num_classes)`` float32 of a batch ``(n, …)``.

        For a model of one batch size a shorter batch is padded with its last sample; logits of padding are dropped.

        Raises:
            DataError: the array has another shape or more samples than the model takes, or holds NaN or infinity.
            SelfCheckError: see ``check``; also if an answer is not finite.
        """
        array = np.ascontiguousarray(array, "float32")
        if array.shape[1:] != self.export.sample_shape or not len(array):
            raise DataError("input", f"expected the shape (n, {', '.join(map(str, self.export.sample_shape))}), got "
                            f"{array.shape}")
        if not np.isfinite(array).all():
            raise DataError("input", "contains NaN or infinity")
        count, batch = len(array), self.export.batch or len(array)
        if count > batch:
            raise DataError("input", f"{self.export.stem} takes at most {batch} samples per batch, got {count}",
                            "Pass fewer samples, or use an export for this batch size")
        if batch not in self.errors:
            self.check(batch)
        if count < batch:
            array = np.concatenate([array, np.repeat(array[-1:], batch - count, axis=0)])
        logits, self.seconds = self.compute_timed(array)
        if logits.shape != (batch, self.export.num_classes) or not np.isfinite(logits).all():
            raise SelfCheckError(self.label, f"returned logits with NaN, infinity or the wrong shape {logits.shape}",
                                 self.advice())
        return logits[:count]

    def describe(self):
        """A dict of what is in use, for reports."""
        return {"runtime": self.kind, "version": self.version, "device": self.device,
                "model": str(self.export.stem), "precision": self.options.precision,
                "ir_optim": self.options.ir_optim, "mkldnn": self.onednn,
                "tensorrt": self.options.use_tensorrt, "cpu_threads": self.options.threads,
                "selfcheck_error": max(self.errors.values()), "selfcheck_tolerance": self.tolerance}

    def gpu_megabytes(self):
        """Memory reserved on the GPU; None if the runtime does not report it."""
        return None

    def advice(self):
        """The options that are known to give correct results."""
        options = [f"{flag}" for asked, flag in ((self.onednn, "--enable_mkldnn=False"),
                                                 (self.options.precision != "fp32", "--precision=fp32"),
                                                 (self.options.use_tensorrt, "--use_tensorrt=False"),
                                                 (self.options.use_gpu, "--use_gpu=False")) if asked]
        if options:
            text = f"Use {' '.join(options)}, with which the export was verified"
            if self.kind == "paddle" and "onnx" in self.export.metadata:
                text += ", or --runtime onnxruntime"
            return text
        return ("The files do not belong together or are damaged: export the model again"
                + (" and convert it with tools/paddle2onnx.py" if self.kind == "onnxruntime" else ""))


def first_line(error):
    """The informative line of a framework's message, which may be pages long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Error" in line or line.startswith("(")]
    return (telling or lines or [type(error).__name__])[0][:300]


def open_runtime(path, kind, options=None):
    """Open an export.

    Args:
        path: an ``ExportFolder``, or the folder, the stem or a file of one.
        kind: ``paddle``, ``onnxruntime`` or ``om``.
        options: ``RuntimeOptions``.

    Raises:
        ExportError: files are missing. UnavailableError: the runtime or a requested device is not available.
        SelfCheckError: its results are wrong.
    """
    if kind not in RUNTIMES:
        raise ConfigError("--runtime", f"unknown runtime {kind!r}", near_miss(kind, RUNTIMES))
    module, name = RUNTIMES[kind]
    try:
        runtime = getattr(importlib.import_module(f".{module}", __package__), name)
    except ImportError as error:
        raise UnavailableError(f"--runtime {kind}", f"cannot be imported ({first_line(error)})",
                               HOW_TO_GET[kind]) from error
    export, options = path if isinstance(path, ExportFolder) else find_export(path), options or RuntimeOptions()
    if options.precision != "fp32":
        runtime.verify_float32(export, options)
    opened = runtime(export, options)
    logger.info("Runtime: %s %s on %s; self-check passed, relative error %.1g",
                opened.kind, opened.version, opened.device, max(opened.errors.values()))
    return opened
