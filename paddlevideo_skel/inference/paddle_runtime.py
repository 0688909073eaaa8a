"""Paddle Inference; the only module of this folder that imports paddle."""
import logging
from dataclasses import replace

import paddle
from paddle import inference

from .. import devices
from ..devices import find_device
from ..errors import SelfCheckError, UnavailableError
from .benchmark import measure_in_turns
from .runtime import Runtime

logger = logging.getLogger(__name__)

HALF = {"fp16": inference.PrecisionType.Half, "bf16": inference.PrecisionType.Bfloat16}


class PaddleRuntime(Runtime):
    """An export in Paddle Inference, on CPU, GPU or NPU."""

    kind, version = "paddle", paddle.__version__

    def __init__(self, export, options):
        try:
            super().__init__(export, options)
        except SelfCheckError as error:
            if not self.onednn or options.enable_mkldnn:
                raise
            # oneDNN depends on the CPU: its results were correct on the host that made the export.
            logger.warning("oneDNN, which %s recommends, is not used: %s", export.stem, error.problem)
            super().__init__(export, replace(options, enable_mkldnn=False))

    def load(self):
        options, device = self.options, self.choose_device()
        config = inference.Config(str(self.export.graph), str(self.export.params))
        config.disable_glog_info()
        config.switch_ir_optim(options.ir_optim)
        if device == "cpu":
            self.set_up_cpu(config)
        elif device == "gpu":
            config.enable_use_gpu(options.gpu_mem, options.device_id,
                                  HALF.get(options.precision, inference.PrecisionType.Float32))
            if options.use_tensorrt:
                config.enable_tensorrt_engine(
                    workspace_size=1 << 30, max_batch_size=64, min_subgraph_size=3,
                    precision_mode=HALF.get(options.precision, inference.PrecisionType.Float32))
        else:
            config.enable_custom_device(device, options.device_id)
        # Memory optimisation stays off: without oneDNN it fails on .json graphs ("Not find predictor_id 0").
        self.inference_config = config
        self.predictor = inference.create_predictor(config)
        self.input = self.predictor.get_input_handle(self.predictor.get_input_names()[0])
        self.output = self.predictor.get_output_handle(self.predictor.get_output_names()[0])
        return device

    def choose_device(self):
        """``cpu``, ``gpu`` or ``npu``; an ``UnavailableError`` if a requested device is not available."""
        options = self.options
        device = find_device(paddle, options.use_gpu, options.use_npu)
        if options.use_tensorrt and (device != "gpu" or inference.get_trt_compile_version() == (0, 0, 0)):
            raise UnavailableError("--use_tensorrt", "TensorRT needs a GPU and a paddle built with it",
                                   "Omit --use_tensorrt")
        if options.precision != "fp32" and device == "npu":
            raise UnavailableError(f"--precision {options.precision}", "paddle has no half precision on an NPU",
                                   "Use --precision fp32")
        return device

    def set_up_cpu(self, config):
        """Set threads, oneDNN and precision."""
        options = self.options
        self.onednn = self.choose_onednn()
        devices.keep_memory()
        config.disable_gpu()
        config.set_cpu_math_library_num_threads(options.threads)
        if options.precision == "fp16":
            raise UnavailableError("--precision fp16", "paddle has no fp16 on a CPU", "Use --precision fp32")
        if options.precision == "bf16" and not options.enable_mkldnn:
            raise UnavailableError("--precision bf16", "on a CPU bf16 needs oneDNN",
                                   "Add --enable_mkldnn=True, or use --precision fp32")
        if not self.onednn:
            config.disable_mkldnn()
            return
        config.enable_mkldnn()
        if options.precision == "bf16":
            config.enable_mkldnn_bfloat16()

    def choose_onednn(self):
        """Whether to use oneDNN: as the options say, or if it was correct and faster when the export was made."""
        if self.options.enable_mkldnn is not None:
            return self.options.enable_mkldnn
        return bool((self.export.metadata.get("verified", {}).get("onednn") or {}).get("faster"))

    @property
    def files(self):
        return [self.export.graph, self.export.params]

    def gpu_megabytes(self):
        return round(paddle.device.cuda.max_memory_reserved() / 2 ** 20, 1)

    def compute(self, array):
        self.input.reshape(array.shape)
        self.input.copy_from_cpu(array)
        self.predictor.run()
        return self.output.copy_to_cpu()


def try_onednn(plain):
    """Whether oneDNN is correct for an export, and faster than without; a dict for its metadata.

    Args:
        plain: an open ``PaddleRuntime`` of the export without oneDNN.
    """
    export = plain.export
    try:
        runtime = PaddleRuntime(export, replace(plain.options, enable_mkldnn=True))
        runtime.check(export.other_batch)
    except SelfCheckError as error:
        return {"right": False, "faster": False, "problem": error.problem}
    array, _ = plain.selfcheck.repeated(export.batch or 1)
    without, with_onednn = measure_in_turns([plain, runtime], array, repeats=5)
    return {"right": True, "faster": with_onednn < without,
            "relative_error": {f"batch {n}": e for n, e in runtime.errors.items()}}
