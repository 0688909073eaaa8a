"""Rewrite ONNX graphs: the ``Graph`` class, fixed batch sizes, operators of other opsets, simplification.

Nothing here verifies the rewritten graph: callers compare its results.
"""
import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from ..errors import ExportError
from .onnx_model import shape_problems, values_by_name, with_shapes

MAX_FOLDED_SIZE = 1024  # numbers; sizes and axes are smaller, and larger constants would only make the file large
# Operators that take this from a second input in opset 13 and from an attribute in opset 11.
ATTRIBUTES_OF_OPSET_11 = {"ReduceSum": "axes", "Squeeze": "axes", "Unsqueeze": "axes", "Split": "split"}


class Graph:
    """A model's graph for rewriting, with lookups: producer and readers of a value, constants, shapes."""

    def __init__(self, model):
        self.proto = model.graph
        self.nodes = list(model.graph.node)
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.outputs = {value.name for value in model.graph.output}
        inferred = with_shapes(model).graph
        self.shapes = {name: [dim.dim_value for dim in value.type.tensor_type.shape.dim][1:]
                       for name, value in values_by_name(inferred).items()}
        self.count = 0

    def shape(self, name):
        """A value's shape without its first axis, the batch; None if another axis is not known."""
        found = self.shapes.get(name)
        return found if found and all(found) else None

    def makers(self):
        """Value → the node that produces it."""
        return {name: node for node in self.nodes for name in node.output}

    def readers(self):
        """Value → the nodes that read it."""
        found = {}
        for node in self.nodes:
            for name in node.input:
                found.setdefault(name, []).append(node)
        return found

    def array(self, name):
        """A constant's value; None if the name belongs to something computed."""
        return numpy_helper.to_array(self.constants[name]) if name in self.constants else None

    def add_constant(self, array):
        """Add a constant; returns its name."""
        self.count += 1
        name = f"rewritten.{self.count}"
        while name in self.constants:
            self.count += 1
            name = f"rewritten.{self.count}"
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def only_reader(self, name, readers):
        """The only node that reads a value; None if there are several, or if it is an output of the model."""
        found = readers.get(name, [])
        return found[0] if len(found) == 1 and name not in self.outputs else None

    def replace(self, old, new):
        """Replace the nodes ``old`` by the nodes ``new``, at the position of the last of them."""
        ids = {id(node) for node in old}
        place = max(index for index, node in enumerate(self.nodes) if id(node) in ids)
        self.nodes[place + 1:place + 1] = new
        self.nodes = [node for node in self.nodes if id(node) not in ids]

    def write(self):
        """Put nodes and constants back into the model, without those that are not used."""
        nodes, used = used_nodes(self.nodes, self.outputs)
        replace_items(self.proto.node, nodes)
        replace_items(self.proto.initializer, [tensor for name, tensor in self.constants.items() if name in used])


def used_nodes(nodes, outputs):
    """The nodes that a graph's outputs depend on, and the names of all values that are used."""
    used, kept = set(outputs), []
    for node in reversed(nodes):
        if used & set(node.output):
            kept.append(node)
            used.update(node.input)
    return kept[::-1], used


def node_attributes(node):
    """A node's attributes as a dict."""
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def replace_items(field, items):
    """Set a repeated field of a graph to these items, some of which may be in it already."""
    copies = [type(item).FromString(item.SerializeToString()) for item in items]
    del field[:]
    field.extend(copies)


def fix_batch(model, batch):
    """A copy of a model that takes exactly ``batch`` samples, with only static shapes.

    Raises:
        ExportError: some shapes are not static; the message names the values.
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
    """Turn each ``Shape`` of a static shape, and whatever is computed from such shapes alone, into constants, in place.

    Args:
        model: as ``with_shapes`` returns it.

    Returns:
        how many nodes were replaced.
    """
    graph = model.graph
    values = values_by_name(graph)
    known = {tensor.name for tensor in graph.initializer}
    folded, read, made = [], set(), set()
    for node in graph.node:
        source = {node.input[0]} if node.op_type == "Shape" and _size(values.get(node.input[0])) else set()
        from_shapes = made & set(node.input) and set(filter(None, node.input)) <= known | made
        if source or (from_shapes and all(0 < _size(values.get(name)) <= MAX_FOLDED_SIZE for name in node.output)):
            folded.append(node)
            read |= source - known - made
            made.update(node.output)
    if not folded:
        return 0
    # Only their shapes matter, so the values are zeros that take no memory.
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
    replace_items(graph.node, kept)
    replace_items(graph.initializer, constants)
    return len(folded)


def _shape(value):
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


def _size(value):
    """How many numbers a value has; 0 if its shape is not static."""
    if value is None or not value.type.tensor_type.HasField("shape"):
        return 0
    return int(np.prod(_shape(value)))


def pad_with_zeros(model):
    """Replace each ``Concat`` of a value and zeros shaped like another by ``Pad``, in place.

    paddle2onnx computes the shape of ``zeros_like`` in the graph. With an open batch, neither shape inference nor ATC
    can follow that.
    """
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    zeros = {tensor.name for tensor in graph.initializer if not numpy_helper.to_array(tensor).any()}
    values = values_by_name(with_shapes(model, 1).graph)
    for node in graph.node:
        likes = [_shaped_like(name, makers, zeros) for name in node.input] if node.op_type == "Concat" else []
        if len(likes) != 2 or (likes[0] is None) == (likes[1] is None):
            continue
        like = values.get(likes[0] or likes[1])
        sizes = () if like is None else _shape(like)
        axis, at_end = node.attribute[0].i, likes[0] is None
        if not -len(sizes) <= axis < len(sizes) or not sizes[axis]:
            continue  # the size is not known
        pads = np.zeros((2, len(sizes)), "int64")
        pads[int(at_end), axis] = sizes[axis]
        name = f"{node.output[0]}.pads"
        graph.initializer.append(numpy_helper.from_array(pads.reshape(-1), name))
        node.CopyFrom(helper.make_node("Pad", [node.input[0 if at_end else 1], name], node.output, node.name))
    replace_items(graph.node, used_nodes(graph.node, {value.name for value in graph.output})[0])


def _shaped_like(name, makers, zeros):
    """The value whose shape the zeros ``name`` have; None if ``name`` is something else."""
    node = makers.get(name)
    while node is not None and node.op_type == "Identity":
        node = makers.get(node.input[0])
    if node is None or node.op_type != "Expand" or node.input[0] not in zeros:
        return None
    shape = makers.get(node.input[1])
    return shape.input[0] if shape is not None and shape.op_type == "Shape" else None


def lower_opset(model, opset):
    """Rewrite a model of opset 13 in the operators of opset 11 or 12, in place.

    ONNX's own version converter cannot go below 13 (it has no adapter for ``Transpose``), although in these models
    only the way to pass a few axes differs.

    Raises:
        ExportError: such axes are computed in the graph.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        name = ATTRIBUTES_OF_OPSET_11.get(node.op_type)
        if name is None or len(node.input) < 2:
            continue
        if node.input[1] not in constants:
            raise ExportError("the ONNX model", f"the {name} of {node.op_type} {node.name} are not constant")
        node.attribute.append(helper.make_attribute(name, constants[node.input[1]].tolist()))
        del node.input[1:]
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = opset
    model.ir_version = helper.find_min_ir_version_for(model.opset_import)


def simplify(model):
    """A smaller copy, by onnxslim: constants folded, layers fused, operators without effect removed.

    Raises:
        ExportError: onnxslim failed, or renamed the input or the output.
    """
    import onnxslim

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    try:
        # The threshold is in bytes. Without it, one number expanded to a million would be stored a million times.
        slim = onnxslim.slim(copy, size_threshold=4 * MAX_FOLDED_SIZE)
    except Exception as error:  # its parts raise unrelated exception classes
        raise ExportError("onnxslim", f"failed: {type(error).__name__}: {error}") from error
    for before, after in ((model.graph.input, slim.graph.input), (model.graph.output, slim.graph.output)):
        if [value.name for value in before] != [value.name for value in after]:
            raise ExportError("onnxslim", "renamed the model's input or output")
    slim.ir_version = model.ir_version
    return slim
