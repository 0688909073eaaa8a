"""ONNX Runtime, on a CPU or through the execution providers for other devices."""
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
CPU_PROVIDER, CANN_PROVIDER = "CPUExecutionProvider", "CANNExecutionProvider"
# CANN's provider computes in float16 by default (ONNX Runtime's documentation).
CANN_PRECISIONS = {"fp32": "must_keep_origin_dtype", "fp16": "force_fp16"}
NEEDS = {CANN_PROVIDER: "It needs CANN's libraries (libascendcl.so): install CANN's toolkit or nnrt and the driver, "
                        "and source its set_env.sh",
         "CUDAExecutionProvider": "It needs the libraries of CUDA and cuDNN"}


class OnnxRuntime(Runtime):
    """The converted model in ONNX Runtime.

    CANN's provider has not been run on an NPU; only its failures on a host without CANN are tested.
    """

    kind, version = "onnxruntime", onnxruntime.__version__

    def load(self):
        if not self.export.file(ONNX).is_file():
            raise ExportError(self.export.file(ONNX), "the export has no ONNX model",
                              "Convert it with tools/paddle2onnx.py")
        for flag, required, device, provider in self.list_providers():
            problem = self.try_provider(provider)
            if problem is None:
                return device
            if required:
                raise UnavailableError(f"{flag} ({provider})", "is built into this ONNX Runtime but cannot "
                                       f"be used: {problem}", NEEDS.get(provider, ""))
            logger.warning("%s is built into this ONNX Runtime but cannot be used (%s); it is skipped", provider,
                           problem)
        raise UnavailableError(f"--precision {self.options.precision}", "ONNX Runtime supports only fp32 here, and "
                               "fp16 through CANN", "Use --precision fp32")

    def list_providers(self):
        """``(flag, required, device, provider)`` of the providers to try, in this order."""
        options, there = self.options, onnxruntime.get_available_providers()
        known = [("--use_tensorrt", options.use_tensorrt, "gpu", "TensorrtExecutionProvider"),
                 ("--use_gpu", options.use_gpu, "gpu", "CUDAExecutionProvider"),
                 ("--use_npu", options.use_npu, "npu", CANN_PROVIDER),
                 ("--enable_mkldnn", bool(options.enable_mkldnn), "cpu", "DnnlExecutionProvider")]
        for flag, required, _, provider in known:
            if required and provider not in there:
                get = ", or pip install onnxruntime-cann" if provider == CANN_PROVIDER else ""
                raise UnavailableError(flag, f"this ONNX Runtime has no {provider}, only {', '.join(there)}",
                                       f"Omit {flag}{get}")
        required = [row for row in known if row[1]][:1]
        possible = [row for row in known if row[1] is None and row[3] in there]
        found = required or [*possible, ("", False, "cpu", CPU_PROVIDER)]
        half = options.precision == "fp16"
        return [row for row in found if options.precision == "fp32" or (half and row[3] == CANN_PROVIDER)]

    def try_provider(self, provider):
        """Create the session; returns None, or why the provider cannot be used."""
        options, path = self.options, self.export.file(ONNX)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        settings.log_severity_level = WARNING + 1
        if not options.ir_optim:
            settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        given = {} if provider in (CPU_PROVIDER, "DnnlExecutionProvider") else {"device_id": str(options.device_id)}
        if provider == CANN_PROVIDER:
            given["precision_mode"] = CANN_PRECISIONS[options.precision]
        try:
            # By default ONNX Runtime would fall back to the CPU and only print a message.
            self.session = onnxruntime.InferenceSession(str(path), settings, providers=[(provider, given)],
                                                        enable_fallback=0)
        except (RuntimeError, ValueError) as error:
            return library_problem(provider) or first_line(error)
        except Exception as error:  # errors of the model have no other common base class
            raise ExportError(path, f"ONNX Runtime cannot load it: {error}", "Convert the export again") from error
        if self.session.get_providers()[0] != provider:
            return library_problem(provider) or f"ONNX Runtime used {self.session.get_providers()[0]} instead"
        self.session.disable_fallback()
        self.input = self.session.get_inputs()[0].name
        return None

    @classmethod
    def verify_float32(cls, export, options):
        """Check the model on the CPU: the chip may be unable to compute in float32."""
        super().verify_float32(export, replace(options, use_gpu=False, use_npu=False, use_tensorrt=False))

    @property
    def files(self):
        return [self.export.file(ONNX)]

    def compute(self, array):
        return self.session.run(None, {self.input: array})[0]


def library_problem(provider):
    """Why a provider's library cannot be loaded, e.g. which library is missing; None if it can, or if it has none."""
    name = provider.removesuffix("ExecutionProvider").lower()
    shared, library = (Path(onnxruntime.__file__).parent / "capi" / f"libonnxruntime_providers_{which}.so"
                       for which in ("shared", name))
    if shared.is_file() and library.is_file():
        try:
            ctypes.CDLL(str(shared), mode=ctypes.RTLD_GLOBAL)  # as in ONNX Runtime: the other library uses its symbols
            ctypes.CDLL(str(library))
        except OSError as error:
            return str(error)
    return None
