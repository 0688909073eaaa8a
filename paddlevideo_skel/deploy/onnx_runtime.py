"""ONNX Runtime. Needs neither paddle nor the models."""
import onnxruntime

from ..errors import ExportError, UnavailableError
from .folder import ONNX
from .runtimes import Runtime

WARNING = 2


class OnnxRuntime(Runtime):
    """The converted model in ONNX Runtime."""

    kind, version = "onnxruntime", onnxruntime.__version__

    def load(self):
        path, options = self.export.file(ONNX), self.options
        if not path.is_file():
            raise ExportError(path, "the export has no ONNX model yet", "Convert it with tools/paddle2onnx.py")
        if options.precision != "fp32":
            raise UnavailableError(f"--precision {options.precision}", "the ONNX model computes in float32",
                                   "Use --precision fp32")
        device, provider = self.choose_provider()
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        settings.log_severity_level = WARNING + 1
        if not options.ir_optim:
            settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self.session = onnxruntime.InferenceSession(str(path), settings, providers=[provider])
        except Exception as error:  # onnxruntime's errors share no base class but this one
            raise ExportError(path, f"ONNX Runtime cannot load it: {error}", "Convert the export again") from error
        if self.session.get_providers()[0] != provider:
            raise UnavailableError(provider, f"ONNX Runtime took {self.session.get_providers()[0]} in its place")
        self.session.disable_fallback()
        self.input = self.session.get_inputs()[0].name
        return device

    def choose_provider(self):
        """Device and execution provider for the options."""
        options, there = self.options, onnxruntime.get_available_providers()
        wanted = [("--use_tensorrt", options.use_tensorrt, "gpu", "TensorrtExecutionProvider"),
                  ("--use_gpu", options.use_gpu, "gpu", "CUDAExecutionProvider"),
                  ("--use_npu", options.use_npu, "npu", "CANNExecutionProvider"),
                  ("--enable_mkldnn", options.enable_mkldnn, "cpu", "DnnlExecutionProvider")]
        for flag, asked, _, provider in wanted:
            if asked and provider not in there:
                raise UnavailableError(flag, f"this ONNX Runtime has no {provider}, only {', '.join(there)}",
                                       f"Leave {flag} away")
        for _, asked, device, provider in wanted:
            if asked or (asked is None and provider in there):
                return device, provider
        return "cpu", "CPUExecutionProvider"

    def compute(self, array):
        return self.session.run(None, {self.input: array})[0]
