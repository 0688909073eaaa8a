"""Read ONNX models: inputs, shapes of values, computational cost.

The onnx package is imported when a model is read; importing this module does not need it.
"""
import math
from dataclasses import dataclass

from ..errors import ExportError, UnavailableError, shorten_list

MAX_NAMED = 3  # names in a message


@dataclass(frozen=True)
class ModelInput:
    """One input of a model: its name and its shape, -1 for an open batch axis, None for an unknown size."""
    name: str
    shape: tuple


def import_onnx():
    """The ``onnx`` package.

    Raises:
        UnavailableError: it is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise UnavailableError("reading ONNX models", f"onnx cannot be imported ({error})",
                               "pip install 'paddlevideo-skel[onnx]', or onnx alone") from error
    return onnx


def load_onnx(path):
    """An ONNX model.

    Raises:
        ExportError: the file is missing or is not an ONNX model.
    """
    onnx = import_onnx()
    try:
        model = onnx.load(path)
    except FileNotFoundError as error:
        raise ExportError(path, "ONNX model not found", "tools/export_onnx.py converts an export") from error
    except Exception as error:  # protobuf's exceptions share no other base class
        raise ExportError(path, f"is not an ONNX model ({type(error).__name__}: {error})") from error
    if not model.graph.node:
        raise ExportError(path, "is not an ONNX model: its graph is empty")
    return model


def model_inputs(model):
    """The inputs that have to be fed, as ``ModelInput``s."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [ModelInput(value.name, value_shape(value, open_batch=True)) for value in model.graph.input
            if value.name not in weights]


def model_opset(model):
    """Version of ONNX's own operator set that the model uses; None if it names none."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), None)


def values_by_name(graph):
    """The descriptions of a graph's inputs, outputs and inner values, as far as the graph has them."""
    return {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}


def value_shape(value, open_batch=False):
    """Sizes of a value; None without a shape. An unknown size is None, or -1 if it is an open batch axis."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    sizes = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None
             for dim in value.type.tensor_type.shape.dim]
    if open_batch and sizes and sizes[0] is None:
        sizes[0] = -1
    return tuple(sizes)


def with_shapes(model, batch=None):
    """A copy of the model that contains every shape that follows from its inputs.

    Args:
        batch: size for a dynamic batch axis; None: it stays open.
    """
    onnx = import_onnx()
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    open_batch = {item.name for item in model_inputs(model) if item.shape and item.shape[0] == -1}
    if batch is not None and open_batch:
        for value in copy.graph.input:
            if value.name in open_batch:
                value.type.tensor_type.shape.dim[0].dim_value = batch
        # The shapes stored by the converter are for a dynamic batch.
        del copy.graph.value_info[:]
        for value in copy.graph.output:
            value.type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(copy, strict_mode=True, data_prop=True)


def shape_problems(model, batch=None):
    """What is wrong with the shapes of a model ``with_shapes``: inputs and values that are not static, in words."""
    known = values_by_name(model.graph)
    names = [item.name for item in model_inputs(model)]
    names += [name for node in model.graph.node for name in node.output if name]
    open_ones = [f"{name} {_describe(known.get(name))}" for name in names if not _is_static(known.get(name))]
    size = "" if batch is None else f" at batch {batch}"
    return [f"shapes are not known to be static{size} ({name_some(open_ones, 'value')})"] if open_ones else []


def _is_static(value):
    shape = None if value is None else value_shape(value)
    return shape is not None and all(shape)


def _describe(value):
    shape = None if value is None else value_shape(value)
    return "of unknown shape" if shape is None else f"({', '.join('?' if n is None else str(n) for n in shape)})"


def name_some(names, what):
    """``nodes a, b, c and 7 more``"""
    return f"{what}{'s' * (len(names) > 1)} {shorten_list(names, MAX_NAMED)}"


def count_multiplications(path, batch=1):
    """Multiply-adds of all convolutions and matrix products for ``batch`` samples.

    Args:
        path: ONNX model whose first axis is the batch.

    Raises:
        ExportError: a shape cannot be inferred, or there is another kind of product (``ConvTranspose`` …).
    """
    onnx = import_onnx()
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes = {name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
              for name, value in values_by_name(graph).items()}
    shapes.update({tensor.name: list(tensor.dims) for tensor in graph.initializer})
    shapes.update({node.output[0]: list(node.attribute[0].t.dims) for node in graph.node if node.op_type == "Constant"})

    def shape(name, node):
        if not all(shapes.get(name) or [0]):
            raise ExportError(path, f"the shape of {name} at {node.op_type} is not known: {shapes.get(name)}")
        return shapes[name]

    total = 0
    for node in graph.node:
        if node.op_type == "Conv":
            # The weight is (O, I / groups, kernel …); each result takes one product for each of the rest.
            total += math.prod(shape(node.output[0], node)) * math.prod(shape(node.input[1], node)[1:])
        elif node.op_type == "MatMul":
            total += math.prod(shape(node.output[0], node)) * shape(node.input[0], node)[-1]
        elif node.op_type == "Gemm":
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            total += math.prod(shape(node.output[0], node)) * shape(node.input[0], node)[0 if transposed else 1]
        elif node.op_type == "Einsum":
            # With two factors, one product for each combination of all indices.
            terms = node.attribute[0].s.decode().replace(" ", "").partition("->")[0].split(",")
            if len(terms) != 2 or "..." in "".join(terms):
                raise ExportError(path, f"contains an Einsum of {','.join(terms)}, which is not counted here")
            total += math.prod({index: size for name, term in zip(node.input, terms)
                                for index, size in zip(term, shape(name, node))}.values())
        elif node.op_type in ("ConvTranspose", "ConvInteger", "MatMulInteger", "QLinearConv"):
            raise ExportError(path, f"contains {node.op_type}, whose multiplications are not counted here")
    return total
