"""ONNX graphs rewritten: for one batch size, with other forms of a few operators, simplified. Needs onnx, no paddle.

Nothing here says that the rewritten graph is right: whoever calls this compares answers.
"""
import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from ..ascend.operators import shape_problems, with_shapes
from ..errors import ExportError

SMALL = 1024  # numbers; sizes and axes are fewer, and larger constants would only make the file large
# What opset 13 reads from a second input and opset 11 from an attribute.
ATTRIBUTES = {"ReduceSum": "axes", "Squeeze": "axes", "Unsqueeze": "axes", "Split": "split"}


def fix_batch(model, batch):
    """A copy of a model for ``batch`` samples and no other number, in which every shape is static.

    Raises:
        ExportError: a shape is not; it names the values.
    """
    try:
        fixed = with_shapes(model, batch)
        while fold_shapes(fixed):
            fixed = with_shapes(fixed, batch)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise ExportError("the ONNX model", f"its shapes contradict each other at batch {batch}: {error}") from error
    problems = shape_problems(fixed, batch)
    if problems:
        raise ExportError("the ONNX model", "; ".join(problems))
    return fixed


def fold_shapes(model):
    """Make constants, in place, of ``Shape`` where the shape is static, and of what is computed from it alone.

    Args:
        model: with the shapes of its values, see ``with_shapes``.

    Returns:
        how many nodes were replaced.
    """
    graph = model.graph
    values = {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}
    known = {tensor.name for tensor in graph.initializer}
    folded, read, made = [], set(), set()
    for node in graph.node:
        source = {node.input[0]} if node.op_type == "Shape" and _size(values.get(node.input[0])) else set()
        from_shapes = made & set(node.input) and set(filter(None, node.input)) <= known | made
        if source or (from_shapes and all(0 < _size(values.get(name)) <= SMALL for name in node.output)):
            folded.append(node)
            read |= source - known - made
            made.update(node.output)
    if not folded:
        return 0
    # The values do not matter for their shape: zeros that take no memory.
    feeds = {name: np.broadcast_to(np.float32(0), _shape(values[name])) for name in read}
    outputs = sorted(made)
    inner = helper.make_graph(folded, "shapes", [values[name] for name in sorted(read)],
                              [values[name] for name in outputs], graph.initializer)
    found = ReferenceEvaluator(helper.make_model(inner, opset_imports=model.opset_import)).run(outputs, feeds)
    kept = [node for node in graph.node if not made & set(node.output)]
    used = {name for node in kept for name in node.input} | {value.name for value in graph.output}
    constants = [tensor for tensor in graph.initializer if tensor.name in used]
    constants += [numpy_helper.from_array(np.asarray(value), name)
                  for name, value in zip(outputs, found, strict=True) if name in used]
    _replace(graph.node, kept)
    _replace(graph.initializer, constants)
    return len(folded)


def _replace(field, items):
    """Let a field of a graph hold these items, some of which it held before."""
    copies = [type(item).FromString(item.SerializeToString()) for item in items]
    del field[:]
    field.extend(copies)


def _shape(value):
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


def _size(value):
    """How many numbers a value has; 0 where its shape is not static."""
    if value is None or not value.type.tensor_type.HasField("shape"):
        return 0
    return int(np.prod(_shape(value)))


def pad_with_zeros(model):
    """Write ``Concat`` of a value and zeros shaped like another as ``Pad``, in place.

    paddle2onnx computes the shape of ``zeros_like`` in the graph, where no shape inference follows it, and ATC not
    either, while the batch is open.
    """
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    zeros = {tensor.name for tensor in graph.initializer if not numpy_helper.to_array(tensor).any()}
    inferred = with_shapes(model, 1).graph
    values = {value.name: value for value in (*inferred.input, *inferred.value_info)}
    for node in graph.node:
        likes = [_shaped_like(name, makers, zeros) for name in node.input] if node.op_type == "Concat" else []
        if len(likes) != 2 or (likes[0] is None) == (likes[1] is None):
            continue
        like = values.get(likes[0] or likes[1])
        sizes = () if like is None else _shape(like)
        axis, at_end = node.attribute[0].i, likes[0] is None
        if not -len(sizes) <= axis < len(sizes) or not sizes[axis]:
            continue  # not known here
        pads = np.zeros((2, len(sizes)), "int64")
        pads[int(at_end), axis] = sizes[axis]
        name = f"{node.output[0]}.pads"
        graph.initializer.append(numpy_helper.from_array(pads.reshape(-1), name))
        node.CopyFrom(helper.make_node("Pad", [node.input[0 if at_end else 1], name], node.output, node.name))
    used, kept = {value.name for value in graph.output}, []
    for node in reversed(graph.node):
        if used & set(node.output):
            kept.append(node)
            used.update(node.input)
    _replace(graph.node, kept[::-1])


def _shaped_like(name, makers, zeros):
    """The value whose shape the zeros ``name`` have; None where ``name`` is something else."""
    node = makers.get(name)
    while node is not None and node.op_type == "Identity":
        node = makers.get(node.input[0])
    if node is None or node.op_type != "Expand" or node.input[0] not in zeros:
        return None
    shape = makers.get(node.input[1])
    return shape.input[0] if shape is not None and shape.op_type == "Shape" else None


def lower_opset(model, opset):
    """Write a model of opset 13 in the operators of opset 11 or 12, in place.

    ONNX's own version converter does not go down from 13 (it has no adapter for ``Transpose``), though in these
    models only the place of a few axes differs.

    Raises:
        ExportError: such axes are computed in the graph.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        name = ATTRIBUTES.get(node.op_type)
        if name is None or len(node.input) < 2:
            continue
        if node.input[1] not in constants:
            raise ExportError("the ONNX model", f"the {name} of {node.op_type} {node.name} are no constant")
        node.attribute.append(helper.make_attribute(name, constants[node.input[1]].tolist()))
        del node.input[1:]
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = opset
    model.ir_version = helper.find_min_ir_version_for(model.opset_import)


def simplify(model):
    """A smaller copy by onnxslim: constants folded, layers fused, what changes nothing removed.

    Raises:
        ExportError: onnxslim failed, or renamed the input or the output.
    """
    import onnxslim

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    try:
        # In bytes: without a threshold, a number that is expanded to a million would be stored a million times.
        slim = onnxslim.slim(copy, size_threshold=4 * SMALL)
    except Exception as error:  # it raises whatever its parts do
        raise ExportError("onnxslim", f"failed: {type(error).__name__}: {error}") from error
    for before, after in ((model.graph.input, slim.graph.input), (model.graph.output, slim.graph.output)):
        if [value.name for value in before] != [value.name for value in after]:
            raise ExportError("onnxslim", "renamed the model's input or output")
    slim.ir_version = model.ir_version
    return slim
