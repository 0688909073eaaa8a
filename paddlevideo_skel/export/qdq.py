"""Quantize a float32 ONNX model to 8 bits with ONNX Runtime's static quantizer.

The quantised model has ``QuantizeLinear`` and ``DequantizeLinear`` (QDQ) where numbers are rounded to 8 bits; ONNX
Runtime fuses what lies between them into integer operators. Activations are unsigned and weights signed, the
combination for which processors have one instruction (VNNI); a ReLU is then free, because zero is where the range
begins. An x86 processor without VNNI adds pairs of products in 16 bits: weights of 7 bits keep these sums in range.
"""
import contextlib
import io
import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime import quantization
from tqdm import tqdm

from ..errors import ExportError
from ..inference.runtime import first_line
from .qdq_rewrites import rewrite_for_8_bits

logger = logging.getLogger(__name__)

CALIBRATION_METHODS = {"minmax": quantization.CalibrationMethod.MinMax,
                       "entropy": quantization.CalibrationMethod.Entropy,
                       "percentile": quantization.CalibrationMethod.Percentile}
# Everything between two products, so that values stay in 8 bits in between; but not the head's Gemm.
QUANTIZED_OPERATORS = ("Conv", "MatMul", "Add", "Relu", "Concat", "Split", "MaxPool", "Reshape", "Transpose")
FLOAT_STEPS = 10  # steps in which the graph is left in float32
MIN_QUANTIZED_OPSET = 13  # the first whose QuantizeLinear has one scale per channel


class OneArrayReader(quantization.CalibrationDataReader):
    """One array in the form that ONNX Runtime's calibration reads."""

    def __init__(self, name, array):
        self.feeds = iter([{name: array}])

    def get_next(self):
        return next(self.feeds, None)


class Quantizer:
    """A float32 model, calibrated once, then quantised with more or less of it left in float32.

    Args:
        source: the .onnx file. folder: for intermediate files.
        samples: arrays ``(1, …)`` to calibrate with; iterated several times.
        method: one of ``CALIBRATION_METHODS``.
        weight_bits: 8, or 7 for processors without VNNI.

    Attributes:
        logits: ``(n, classes)``, the float32 model's for ``samples``.

    Raises:
        ExportError: the opset cannot be quantised, or ONNX Runtime's quantiser failed.
    """

    def __init__(self, source, folder, samples, method, weight_bits=8):
        self.folder, self.samples, self.weight_bits = Path(folder), samples, weight_bits
        model = onnx.load(source)
        opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        if opset < MIN_QUANTIZED_OPSET:
            raise ExportError(source, f"has opset {opset}, 8 bits need {MIN_QUANTIZED_OPSET}",
                              f"Convert it with --opset_version {MIN_QUANTIZED_OPSET}")
        rewrite_for_8_bits(model)
        rewritten, prepared = self.folder / "rewritten.onnx", self.folder / "prepared.onnx"
        onnx.save(model, rewritten)
        with quantiser_errors(source):
            # Fuses biases into convolutions, folds constants, infers shapes.
            quantization.quant_pre_process(str(rewritten), str(prepared), skip_symbolic_shape=True)
        self.model = onnx.load(prepared)
        for number, node in enumerate(self.model.graph.node):
            node.name = f"{node.op_type}_{number}"  # the quantiser identifies nodes by name
        onnx.save(self.model, prepared)
        self.ranges = self.calibrate(prepared, CALIBRATION_METHODS[method])
        share_concat_ranges(self.model.graph, self.ranges)
        self.logits = logits_of(self.model, samples, "float32 logits")

    def calibrate(self, path, method):
        """The range of every value over all samples."""
        name = self.model.graph.input[0].name
        with quantiser_errors(path):
            calibrator = quantization.create_calibrator(str(path), QUANTIZED_OPERATORS,
                                                        str(path.with_stem("augmented")), method)
        for sample in with_progress(self.samples, "calibrating"):
            with quantiser_errors(path):
                # One at a time, because a call keeps all its samples in memory.
                calibrator.collect_data(OneArrayReader(name, sample))
        with quantiser_errors(path):
            return calibrator.compute_data()

    def quantize(self, excluded=()):
        """The quantised model; nodes named in ``excluded`` stay in float32."""
        copy = onnx.ModelProto()
        copy.CopyFrom(self.model)
        with quantiser_errors("the ONNX model"):
            work = quantization.QDQQuantizer(
                copy, per_channel=True, reduce_range=self.weight_bits == 7, weight_qType=quantization.QuantType.QInt8,
                activation_qType=quantization.QuantType.QUInt8, tensors_range=self.ranges, nodes_to_quantize=None,
                nodes_to_exclude=list(excluded), op_types_to_quantize=list(QUANTIZED_OPERATORS), extra_options={})
            work.quantize_model()
        return work.model.model

    def quantize_and_correct(self, excluded=()):
        """The quantised model with its mean error subtracted from the logits, and the remaining error."""
        model = self.quantize(excluded)
        found = logits_of(model, self.samples, "8-bit logits")
        shift = (self.logits - found).mean(axis=0)
        add_to_output(model, shift)
        return model, relative_rms(found + shift, self.logits)

    def candidates(self, tolerance):
        """Quantised models with an error within ``tolerance``, from the fastest to the most exact.

        First everything is quantised, then the beginning of the graph stays in float32, in steps of a tenth of its
        nodes up to half of them: it has the fewest channels, and its errors pass through all that follows. (With
        CTR-GCN-Lite on UTKinect, the first block in float32 lowers the error by a third, any other by a tenth.) A
        single node in float32 would not help, because its neighbours round its inputs and outputs.

        Yields:
            (model, number of nodes left in float32, error).

        Raises:
            ExportError: no model is within ``tolerance``.
        """
        names, least = [node.name for node in self.model.graph.node], float("inf")
        for step in range(FLOAT_STEPS // 2 + 1):
            excluded = names[:len(names) * step // FLOAT_STEPS]
            model, error = self.quantize_and_correct(excluded)
            logger.info("%d of %d nodes left in float32: the logits differ by %.3f", len(excluded), len(names), error)
            least = min(least, error)
            if error <= tolerance:
                yield model, len(excluded), error
        if least > tolerance:
            raise ExportError("8 bits", f"with half of the nodes in float32, the logits still differ by {least:.2g} "
                              f"from float32, but only {tolerance:g} is allowed",
                              "Calibrate with more --samples or another --method, or allow more with --tolerance")


def share_concat_ranges(graph, ranges):
    """Give the inputs of each ``Concat`` the range of its output, in place, so that it only moves bytes."""
    for node in graph.node:
        if node.op_type == "Concat" and node.output[0] in ranges:
            for name in set(node.input) & set(ranges):  # constants and sizes have no range
                ranges[name] = ranges[node.output[0]]


def add_to_output(model, shift):
    """Add ``shift (classes,)`` to the model's output, in place."""
    graph = model.graph
    name = graph.output[0].name
    for node in graph.node:
        node.output[:] = [f"{name}.unshifted" if output == name else output for output in node.output]
    graph.initializer.append(onnx.numpy_helper.from_array(shift.astype("float32"), f"{name}.shift"))
    graph.node.append(onnx.helper.make_node("Add", [f"{name}.unshifted", f"{name}.shift"], [name]))


def with_progress(samples, text):
    """The samples behind a progress bar."""
    return tqdm(samples, desc=text, unit="sample", leave=False, disable=None)


@contextlib.contextmanager
def quantiser_errors(where):
    """A block that calls ONNX Runtime's quantiser: silences its advice, raises its errors as ``ExportError``."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # its parts raise unrelated exception classes
        raise ExportError(where, f"could not be quantized: {type(error).__name__}: {first_line(error)}",
                          "Report this, with the model") from error
    finally:
        logging.disable(level)


def open_ort_session(model, optimised=True):
    """An ONNX Runtime session on the CPU for a model or the path of one."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    if not optimised:
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model if isinstance(model, str) else model.SerializeToString(), settings,
                                        providers=["CPUExecutionProvider"])


def logits_of(model, samples, text="answering", optimised=True):
    """Logits ``(n, classes)`` for n arrays ``(1, …)``; ``text`` labels the progress bar."""
    session = open_ort_session(model, optimised)
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: sample})[0] for sample in with_progress(samples, text)])


def relative_rms(found, right):
    """Root mean square of ``found - right`` over that of ``right`` about its row means, because logits have no zero."""
    spread = right - right.mean(axis=1, keepdims=True)
    return float(np.sqrt(np.square(found.astype("float64") - right).mean() / np.square(spread).mean()))
