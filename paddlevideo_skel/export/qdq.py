"""A float32 ONNX model in 8 bits: ONNX Runtime's static quantiser, what it hurts too much left in float32.

The quantised model says in ``QuantizeLinear`` and ``DequantizeLinear`` (QDQ) where numbers are rounded to 8 bits; ONNX
Runtime makes integer operators of what lies between. Activations are unsigned and weights signed, the pair for which
processors have one instruction (VNNI); a ReLU costs nothing then, it is where the range begins. An x86 processor
without that instruction adds pairs of products in 16 bits: weights of 7 bits keep these sums in range.
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
from .ort_rewrites import first_equals
from .qdq_rewrites import rewrite_for_8_bits

logger = logging.getLogger(__name__)

METHODS = {"minmax": quantization.CalibrationMethod.MinMax, "entropy": quantization.CalibrationMethod.Entropy,
           "percentile": quantization.CalibrationMethod.Percentile}
# All between two products, so that numbers stay in 8 bits from one to the next. The head's Gemm is not among them.
OPERATORS = ("Conv", "MatMul", "Add", "Relu", "Concat", "Split", "MaxPool", "Reshape", "Transpose")
STEPS = 10
MIN_SIZE = 1024  # numbers of a constant whose rows are looked at
MIN_OPSET = 13  # QuantizeLinear with a scale for each channel


class Samples(quantization.CalibrationDataReader):
    """One array as ONNX Runtime's calibration wants it."""

    def __init__(self, name, array):
        self.feeds = iter([{name: array}])

    def get_next(self):
        return next(self.feeds, None)


class Quantizer:
    """One float32 model, measured once, and quantised with more or less of it left in float32.

    Args:
        source: the .onnx file. folder: for the files in between.
        samples: arrays ``(1, …)`` to calibrate with, a sequence that is gone through several times.
        method: of ``METHODS``.
        weight_bits: 8, or 7 for processors without VNNI.

    Attributes:
        logits: ``(n, classes)``, the float32 model's for ``samples``.

    Raises:
        ExportError: of an opset that cannot be quantised, or ONNX Runtime's quantiser failed.
    """

    def __init__(self, source, folder, samples, method, weight_bits=8):
        self.folder, self.samples, self.weight_bits = Path(folder), samples, weight_bits
        model = onnx.load(source)
        opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        if opset < MIN_OPSET:
            raise ExportError(source, f"is of opset {opset}, 8 bits need {MIN_OPSET}",
                              f"Convert it with --opset_version {MIN_OPSET}")
        rewrite_for_8_bits(model)
        rewritten, prepared = self.folder / "rewritten.onnx", self.folder / "prepared.onnx"
        onnx.save(model, rewritten)
        with quantiser(source):
            # Convolution and bias become one, constants are folded, shapes become known.
            quantization.quant_pre_process(str(rewritten), str(prepared), skip_symbolic_shape=True)
        self.model = onnx.load(prepared)
        for number, node in enumerate(self.model.graph.node):
            node.name = f"{node.op_type}_{number}"  # the quantiser tells nodes by their names
        onnx.save(self.model, prepared)
        self.ranges = self.calibrate(prepared, METHODS[method])
        one_range(self.model.graph, self.ranges)
        self.logits = logits_of(self.model, samples, "float32 logits")

    def calibrate(self, path, method):
        """The range of every value over all samples."""
        name = self.model.graph.input[0].name
        with quantiser(path):
            calibrator = quantization.create_calibrator(str(path), OPERATORS, str(path.with_stem("augmented")), method)
        for sample in progress(self.samples, "calibrating"):
            with quantiser(path):
                # One at a time: all that one call sees is held in memory.
                calibrator.collect_data(Samples(name, sample))
        with quantiser(path):
            return calibrator.compute_data()

    def quantize(self, excluded=()):
        """The quantised model; nodes of the names ``excluded`` stay in float32."""
        copy = onnx.ModelProto()
        copy.CopyFrom(self.model)
        with quantiser("the ONNX model"):
            work = quantization.QDQQuantizer(
                copy, per_channel=True, reduce_range=self.weight_bits == 7, weight_qType=quantization.QuantType.QInt8,
                activation_qType=quantization.QuantType.QUInt8, tensors_range=self.ranges, nodes_to_quantize=None,
                nodes_to_exclude=list(excluded), op_types_to_quantize=list(OPERATORS), extra_options={})
            work.quantize_model()
        return work.model.model

    def corrected(self, excluded=()):
        """The quantised model with its mean error added to the logits, and what error remains."""
        model = self.quantize(excluded)
        found = logits_of(model, self.samples, "8-bit logits")
        shift = (self.logits - found).mean(axis=0)
        add_to_output(model, shift)
        return model, difference(found + shift, self.logits)

    def candidates(self, tolerance):
        """Quantised models, from the fastest to the most exact, whose error is within ``tolerance``.

        All is quantised first, then the graph's beginning stays in float32, in steps of a ``STEPS``-th of its nodes up
        to half of them: it has the fewest channels, and its errors go through all that follows. (Of CTR-GCN-Lite on
        UTKinect, the first block in float32 lowers the error by a third, any other by a tenth.) A node alone would not
        help: its neighbours round what it reads and what it gives.

        Yields:
            (model, number of nodes left in float32, error).

        Raises:
            ExportError: none is within ``tolerance``.
        """
        names, least = [node.name for node in self.model.graph.node], float("inf")
        for step in range(STEPS // 2 + 1):
            excluded = names[:len(names) * step // STEPS]
            model, error = self.corrected(excluded)
            logger.info("%d of %d nodes left in float32: the logits differ by %.3f", len(excluded), len(names), error)
            least = min(least, error)
            if error <= tolerance:
                yield model, len(excluded), error
        if least > tolerance:
            raise ExportError("8 bits", f"with half of the nodes in float32 the logits still differ by {least:.2g} "
                              f"from float32's, allowed are {tolerance:g}",
                              "Calibrate with more --samples or another --method, or allow more by --tolerance")


def one_range(graph, ranges):
    """Give what a ``Concat`` reads the range of what it gives, in place, so that it only moves bytes."""
    for node in graph.node:
        if node.op_type == "Concat" and node.output[0] in ranges:
            for name in set(node.input) & set(ranges):  # constants and sizes have none
                ranges[name] = ranges[node.output[0]]


def add_to_output(model, shift):
    """Add ``shift (classes,)`` to the model's output, in place."""
    graph = model.graph
    name = graph.output[0].name
    for node in graph.node:
        node.output[:] = [f"{name}.unshifted" if output == name else output for output in node.output]
    graph.initializer.append(onnx.numpy_helper.from_array(shift.astype("float32"), f"{name}.shift"))
    graph.node.append(onnx.helper.make_node("Add", [f"{name}.unshifted", f"{name}.shift"], [name]))


def progress(samples, text):
    return tqdm(samples, desc=text, unit="sample", leave=False, disable=None)


@contextlib.contextmanager
def quantiser(where):
    """ONNX Runtime's quantiser without its advice, its errors as ``ExportError``."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # it raises whatever its parts do
        raise ExportError(where, f"could not be quantised: {type(error).__name__}: {first_line(error)}",
                          "Report this, with the model") from error
    finally:
        logging.disable(level)


def open_session(model, optimised=True):
    """An ONNX Runtime session of a model, or of a file, on the CPU."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    if not optimised:
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model if isinstance(model, str) else model.SerializeToString(), settings,
                                        providers=["CPUExecutionProvider"])


def logits_of(model, samples, text="answering", optimised=True):
    """Logits ``(n, classes)`` of n arrays ``(1, …)``."""
    session = open_session(model, optimised)
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: sample})[0] for sample in progress(samples, text)])


def difference(found, right):
    """Root mean square of ``found - right`` by that of ``right`` about the mean of each row: logits have no zero."""
    spread = right - right.mean(axis=1, keepdims=True)
    return float(np.sqrt(np.square(found.astype("float64") - right).mean() / np.square(spread).mean()))


def rows_once(graph):
    """Write constants of many equal rows, blocks of zeros above all, as these rows and a ``Gather``, in place.

    A runtime computes the constant once, when it opens the model.
    """
    kept, made = [], []
    for tensor in graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        rows, index = fewest_rows(array)
        if rows is None:
            kept.append(tensor)
            continue
        name = tensor.name
        parts = {"rows": rows, "index": index.astype("int32"), "shape": np.array(array.shape, "int64")}
        kept += [onnx.numpy_helper.from_array(part, f"{name}.{key}") for key, part in parts.items()]
        made += [onnx.helper.make_node("Gather", [f"{name}.rows", f"{name}.index"], [f"{name}.all"], axis=0),
                 onnx.helper.make_node("Reshape", [f"{name}.all", f"{name}.shape"], [name])]
    kept = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in (*made, *graph.node)]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)


def fewest_rows(array):
    """The different rows of an array that has a number again and again, and where they stand.

    Of rows of whichever length takes the least room.

    Returns:
        ``(rows, index)``, with ``rows[index]`` the array's numbers in their order; ``(None, None)`` where that would
        not save a quarter at least.
    """
    best, least = (None, None), 0.75 * array.nbytes
    if (array.ndim < 2 or array.size < MIN_SIZE
            or np.unique(array, return_counts=True)[1].max() < array.size / 4):  # often the same number: a zero
        return best
    whole = array.size // len(array)
    for length in range(1, whole + 1):
        if whole % length or array.size // length * 4 > least:
            continue
        rows, index = np.unique(array.reshape(-1, length), axis=0, return_inverse=True)
        if rows.nbytes + 4 * index.size < least:
            best, least = (rows, index.reshape(-1)), rows.nbytes + 4 * index.size
    return best


def compact(model):
    """Make a model's file small, in place: equal constants and equal rows once, short names within, nothing for people.

    A quantised model has some hundreds of scales and zero points, and names longer than these are.
    """
    graph = model.graph
    rows_once(graph)
    same = first_equals(graph.initializer)
    kept = [tensor for tensor in graph.initializer if same[tensor.name] == tensor.name]
    kept = [onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name) for tensor in kept]
    names = {value.name: value.name for value in (*graph.input, *graph.output)} | {"": ""}
    for name in (*(same[tensor.name] for tensor in kept), *(name for node in graph.node for name in node.output)):
        names.setdefault(name, f"v{len(names)}")
    for node in graph.node:
        node.ClearField("name")
        node.ClearField("doc_string")
        for field in (node.input, node.output):
            renamed = [names[same.get(name, name)] for name in field]
            del field[:]
            field.extend(renamed)
    for tensor in kept:
        tensor.name = names[tensor.name]
    del graph.initializer[:], graph.value_info[:], model.metadata_props[:], graph.metadata_props[:]
    graph.initializer.extend(kept)
