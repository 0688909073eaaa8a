"""ONNX Runtime, on a CPU or through the execution providers for other devices. Needs neither paddle nor the models."""
import ctypes
import logging
from dataclasses import replace
from pathlib import Path

import onnxruntime

from ..errors import ExportError, UnavailableError
from .artifact import ONNX
from .runtime import Runtime, first_line

logger = logging.getLogger(__name__)

WARNING = 2
CPU, CANN = "CPUExecutionProvider", "CANNExecutionProvider"
# CANN's provider makes float16 of everything unless it is told otherwise (ONNX Runtime's documentation).
CANN_PRECISIONS = {"fp32": "must_keep_origin_dtype", "fp16": "force_fp16"}
NEEDS = {CANN: "CANN's libraries (libascendcl.so) must be loadable: install CANN's toolkit or nnrt and the driver, and "
               "source its set_env.sh first",
         "CUDAExecutionProvider": "CUDA's and cuDNN's libraries must be loadable"}


class OnnxRuntime(Runtime):
    """The converted model in ONNX Runtime.

    CANN's provider has not been tried on an NPU; what it does on a host without CANN has.
    """

    kind, version = "onnxruntime", onnxruntime.__version__

    def load(self):
        if not self.export.file(ONNX).is_file():
            raise ExportError(self.export.file(ONNX), "the export has no ONNX model yet",
                              "Convert it with tools/paddle2onnx.py")
        for flag, asked, device, provider in self.choices():
            problem = self.open(provider)
            if problem is None:
                return device
            if asked:
                raise UnavailableError(f"{flag} ({provider})", "is in this ONNX Runtime, but cannot be used: "
                                       f"{problem}", NEEDS.get(provider, ""))
            logger.warning("%s is in this ONNX Runtime, but cannot be used (%s); going on without", provider, problem)
        raise UnavailableError(f"--precision {self.options.precision}", "ONNX Runtime computes in float32 but for fp16 "
                               "through CANN", "Use --precision fp32")

    def choices(self):
        """``(flag, whether it was asked for, device, provider)`` of what may be tried, in this order."""
        options, there = self.options, onnxruntime.get_available_providers()
        wanted = [("--use_tensorrt", options.use_tensorrt, "gpu", "TensorrtExecutionProvider"),
                  ("--use_gpu", options.use_gpu, "gpu", "CUDAExecutionProvider"),
                  ("--use_npu", options.use_npu, "npu", CANN),
                  ("--enable_mkldnn", bool(options.enable_mkldnn), "cpu", "DnnlExecutionProvider")]
        for flag, asked, _, provider in wanted:
            if asked and provider not in there:
                get = ", or pip install onnxruntime-cann" if provider == CANN else ""
                raise UnavailableError(flag, f"this ONNX Runtime has no {provider}, only {', '.join(there)}",
                                       f"Leave {flag} away{get}")
        asked = [choice for choice in wanted if choice[1]][:1]
        maybe = [choice for choice in wanted if choice[1] is None and choice[3] in there]
        found = asked or [*maybe, ("", False, "cpu", CPU)]
        precision = options.precision
        return [choice for choice in found if precision == "fp32" or (choice[3], precision) == (CANN, "fp16")]

    def open(self, provider):
        """Make the session; returns None, or why the provider cannot be used."""
        options, path = self.options, self.export.file(ONNX)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        settings.log_severity_level = WARNING + 1
        if not options.ir_optim:
            settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        given = {} if provider in (CPU, "DnnlExecutionProvider") else {"device_id": str(options.device_id)}
        if provider == CANN:
            given["precision_mode"] = CANN_PRECISIONS[options.precision]
        try:
            # Where a provider cannot be used, ONNX Runtime would take the CPU and only print so.
            self.session = onnxruntime.InferenceSession(str(path), settings, providers=[(provider, given)],
                                                        enable_fallback=0)
        except (RuntimeError, ValueError) as error:
            return library_problem(provider) or first_line(error)
        except Exception as error:  # the others, of the model, share no base class but this one
            raise ExportError(path, f"ONNX Runtime cannot load it: {error}", "Convert the export again") from error
        if self.session.get_providers()[0] != provider:
            return library_problem(provider) or f"ONNX Runtime took {self.session.get_providers()[0]} in its place"
        self.session.disable_fallback()
        self.input = self.session.get_inputs()[0].name
        return None

    @classmethod
    def show_float32(cls, export, options):
        """The model itself is at fault or not, whatever the chip can do in float32: it is asked on the CPU."""
        super().show_float32(export, replace(options, use_gpu=False, use_npu=False, use_tensorrt=False))

    @property
    def files(self):
        return [self.export.file(ONNX)]

    def compute(self, array):
        return self.session.run(None, {self.input: array})[0]


def library_problem(provider):
    """Why a provider's library cannot be loaded, such as which other library is missing; None: it can, or has none."""
    name = provider.removesuffix("ExecutionProvider").lower()
    shared, library = (Path(onnxruntime.__file__).parent / "capi" / f"libonnxruntime_providers_{which}.so"
                       for which in ("shared", name))
    if shared.is_file() and library.is_file():
        try:
            ctypes.CDLL(str(shared), mode=ctypes.RTLD_GLOBAL)  # as ONNX Runtime does: the others use its symbols
            ctypes.CDLL(str(library))
        except OSError as error:
            return str(error)
    return None
