"""Runtimes: an export folder in, answers out, and no answer before the export's self-check came out right.

Paddle Inference with oneDNN returns wrong numbers for some of these graphs, converters make wrong graphs, files get
mixed up; none of them says so. Therefore every runtime answers the self-check when it is opened, and again for every
batch size it meets. The check cannot be switched off.
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

KINDS = {"paddle": ("paddle_runtime", "PaddleRuntime"), "onnxruntime": ("onnx_runtime", "OnnxRuntime"),
         "om": ("om_runtime", "OmRuntime")}
HOW_TO_GET = {"paddle": "pip install paddlepaddle",
              "onnxruntime": "pip install onnxruntime; a build for NumPy 1, as onnxruntime-cann 1.24 is: "
                             "pip install 'numpy<2'",
              "om": "pip install numpy"}
PRECISIONS = ("fp32", "fp16", "bf16")
# Half precision rounds to 2^-11 or 2^-8 in every layer; this is what that may add up to. It is so wide that wrong
# answers fit into it, so the model must be shown to be right in float32 first; see ``Runtime.show_float32``.
ROUNDING = {"fp16": 5e-3, "bf16": 4e-2}
# A runtime that is nearer than this to float32 did not compute in the half precision asked for.
REALLY_FLOAT32 = 1e-5


@dataclass(frozen=True)
class Options:
    """What a runtime shall use. ``None``: what is there; ``True`` for something that is not there is an error.

    Attributes:
        cpu_threads: threads for one answer; None: all cores of this process. gpu_mem: MB reserved on a GPU.
        enable_mkldnn: oneDNN; None: as the runtime finds best for this export.
        precision: ``fp32``, ``fp16`` or ``bf16``. device_id: which of several GPUs or NPUs.
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
            raise ConfigError("--precision", f"found {self.precision!r}", near_miss(self.precision, PRECISIONS))
        for name in ("cpu_threads", "gpu_mem"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise ConfigError(f"--{name}", f"found {value!r}, expected a positive whole number")
        if type(self.device_id) is not int or self.device_id < 0:
            raise ConfigError("--device_id", f"found {self.device_id!r}, expected a whole number from 0")
        if self.use_gpu and self.use_npu:
            raise ConfigError("--use_gpu", "a GPU and an NPU were both asked for", "Choose one")

    @property
    def threads(self):
        if self.cpu_threads:
            return self.cpu_threads
        return available_cores()


class Runtime:
    """One opened export, a context manager.

    Subclasses give ``load() -> device``, ``compute(array) -> logits`` and ``files``.

    Where the export takes one batch size only (``export.batch``), ``compute`` is called with no other.

    Attributes:
        kind: its name on the command line.
        device: where it computes, e.g. ``"cpu"``.
        onednn: whether with oneDNN; ``load`` decides where the options leave it open.
        errors: batch size → measured relative error of the self-check.
        seconds: how long ``compute`` took for the last answer of ``run``.
    """

    kind = version = None

    def __init__(self, export, options):
        self.export, self.options, self.onednn = export, options, bool(options.enable_mkldnn)
        self.selfcheck = export.selfcheck()
        self.tolerance = ROUNDING.get(options.precision, self.selfcheck.tolerance)
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
        """Give back what ``load`` took from a device; once more does nothing."""

    @classmethod
    def show_float32(cls, export, options):
        """Show that the model is right in float32, before answers in half precision are believed.

        Raises:
            SelfCheckError: it is not.
        """
        with cls(export, replace(options, precision="fp32")):
            pass

    @property
    def files(self):
        """The files that make the model: what another model would have otherwise."""
        raise NotImplementedError

    @property
    def label(self):
        return f"{self.export.stem} in {self.kind}"

    def load(self):
        """Open the model; returns the device."""
        raise NotImplementedError

    def compute(self, array):
        """Logits of a batch, unchecked."""
        raise NotImplementedError

    def timed(self, array):
        """``compute``, and the seconds that it took."""
        start = time.perf_counter()
        logits = self.compute(array)
        return logits, time.perf_counter() - start

    def check(self, batch):
        """Answer the self-check with ``batch`` samples.

        Raises:
            SelfCheckError: with the measured error, the tolerance, and what is known to work.
        """
        array, logits = self.selfcheck.repeated(batch)
        try:
            error = relative_error(self.compute(array), logits)
        except (RuntimeError, ValueError) as failure:
            raise SelfCheckError(self.label, f"failed in its self-check at batch size {batch}: {first_line(failure)}",
                                 self.advice()) from failure
        if not error <= self.tolerance:
            raise SelfCheckError(
                self.label, f"answers its self-check wrongly at batch size {batch}: relative error {error:.2g}, "
                f"allowed {self.tolerance:.0e}", self.advice())
        if self.options.precision != "fp32" and error < REALLY_FLOAT32:
            raise UnavailableError(f"--precision {self.options.precision}", f"{self.kind} computes in float32 all the "
                                   f"same (relative error {error:.1g})", "Use --precision fp32")
        self.errors[batch] = error

    def run(self, array):
        """Logits ``(n, num_classes)`` float32 of a batch ``(n, …)``.

        For a model of one batch size a shorter batch is padded with its last sample, and the padding's logits dropped.

        Raises:
            DataError: the array does not have the model's shape, has more samples than it takes, or holds NaN or
                infinity.
            SelfCheckError: see ``check``; also an answer that is not finite.
        """
        array = np.ascontiguousarray(array, "float32")
        if array.shape[1:] != self.export.sample_shape or not len(array):
            raise DataError("input", f"has the shape {array.shape}, the model takes (n, "
                            f"{', '.join(map(str, self.export.sample_shape))})")
        if not np.isfinite(array).all():
            raise DataError("input", "holds NaN or infinity")
        count, batch = len(array), self.export.batch or len(array)
        if count > batch:
            raise DataError("input", f"holds {count} samples, {self.export.stem} takes at most {batch} at once",
                            "Give it fewer, or use an export for this batch size")
        if batch not in self.errors:
            self.check(batch)
        if count < batch:
            array = np.concatenate([array, np.repeat(array[-1:], batch - count, axis=0)])
        logits, self.seconds = self.timed(array)
        if logits.shape != (batch, self.export.num_classes) or not np.isfinite(logits).all():
            raise SelfCheckError(self.label, f"gave logits {logits.shape} with NaN, infinity or a wrong shape",
                                 self.advice())
        return logits[:count]

    def describe(self):
        """What is in use, for reports."""
        return {"runtime": self.kind, "version": self.version, "device": self.device,
                "model": str(self.export.stem), "precision": self.options.precision,
                "ir_optim": self.options.ir_optim, "mkldnn": self.onednn,
                "tensorrt": self.options.use_tensorrt, "cpu_threads": self.options.threads,
                "selfcheck_error": max(self.errors.values()), "selfcheck_tolerance": self.tolerance}

    def advice(self):
        """Which option is known to answer rightly."""
        options = [f"{flag}" for asked, flag in ((self.onednn, "--enable_mkldnn=False"),
                                                 (self.options.precision != "fp32", "--precision=fp32"),
                                                 (self.options.use_tensorrt, "--use_tensorrt=False"),
                                                 (self.options.use_gpu, "--use_gpu=False")) if asked]
        if options:
            text = f"Use {' '.join(options)}, with which the export was checked when it was made"
            if self.kind == "paddle" and "onnx" in self.export.metadata:
                text += ", or --runtime onnxruntime"
            return text
        return ("The files do not belong together or are damaged: export the model again"
                + (" and convert it with tools/paddle2onnx.py" if self.kind == "onnxruntime" else ""))


def first_line(error):
    """The telling part of a framework's message, which may be pages long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Error" in line or line.startswith("(")]
    return (telling or lines or [type(error).__name__])[0][:300]


def open_runtime(path, kind, options=None):
    """Open an export.

    Args:
        path: an ``ExportFolder``, or the folder, the stem or a file of one.
        kind: ``paddle``, ``onnxruntime`` or ``om``.
        options: ``Options``.

    Raises:
        ExportError: files are missing. UnavailableError: the runtime or a device asked for is not here.
        SelfCheckError: it answers wrongly.
    """
    if kind not in KINDS:
        raise ConfigError("--runtime", f"unknown runtime {kind!r}", near_miss(kind, KINDS))
    module, name = KINDS[kind]
    try:
        runtime = getattr(importlib.import_module(f".{module}", __package__), name)
    except ImportError as error:
        raise UnavailableError(f"--runtime {kind}", f"cannot be imported ({first_line(error)})",
                               HOW_TO_GET[kind]) from error
    export, options = path if isinstance(path, ExportFolder) else find_export(path), options or Options()
    if options.precision != "fp32":
        runtime.show_float32(export, options)
    opened = runtime(export, options)
    logger.info("Runtime: %s %s on %s; the self-check came out right, relative error %.1g",
                opened.kind, opened.version, opened.device, max(opened.errors.values()))
    return opened
