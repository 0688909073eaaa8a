"""ONNX graphs rewritten for ONNX Runtime's CPU provider: the same function in operators that are faster there.

ONNX Runtime computes convolutions, pooling and what stands between them in blocks of 16 channels, and copies a value
whenever it goes from such an operator to any other, or back. So a chain of convolutions must not be left without need.
Every rewrite here works on what the graph says, whichever network it is of, and changes nothing where its pattern is
not found. The measured reasons are in ``docs/performance.md``. Needs onnx, no paddle.

Nothing here says that the rewritten graph is right: whoever calls this compares answers.
"""
import numpy as np
from onnx import helper, numpy_helper

from ..ascend.operators import with_shapes

ELEMENTWISE = ("Add", "Mul")


class Graph:
    """A model's graph with what is looked up again and again: who makes a value, who reads it, constants."""

    def __init__(self, model):
        self.proto = model.graph
        self.nodes = list(model.graph.node)
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.outputs = {value.name for value in model.graph.output}
        noted = with_shapes(model).graph
        self.shapes = {value.name: shape_of(value)
                       for value in (*noted.value_info, *noted.input, *noted.output)}
        self.count = 0

    def shape(self, name):
        """A value's shape without its first axis, the batch; None where another is not known."""
        found = self.shapes.get(name)
        return found if found and all(found) else None

    def makers(self):
        """Value → the node that makes it."""
        return {name: node for node in self.nodes for name in node.output}

    def readers(self):
        """Value → the nodes that read it."""
        found = {}
        for node in self.nodes:
            for name in node.input:
                found.setdefault(name, []).append(node)
        return found

    def array(self, name):
        """A constant's value; None where the name is of something computed."""
        return numpy_helper.to_array(self.constants[name]) if name in self.constants else None

    def constant(self, array):
        """A new constant; returns its name."""
        self.count += 1
        name = f"rewritten.{self.count}"
        while name in self.constants:
            self.count += 1
            name = f"rewritten.{self.count}"
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def alone(self, name, readers):
        """The only node that reads a value; None where there are others, or where it is an answer of the model."""
        found = readers.get(name, [])
        return found[0] if len(found) == 1 and name not in self.outputs else None

    def replace(self, old, new):
        """Nodes ``new`` in the place of the last of the nodes ``old``."""
        ids = {id(node) for node in old}
        place = max(index for index, node in enumerate(self.nodes) if id(node) in ids)
        self.nodes[place + 1:place + 1] = new
        self.nodes = [node for node in self.nodes if id(node) not in ids]

    def write(self):
        """Put nodes and constants back into the model, without what nobody uses."""
        used, kept = set(self.outputs), []
        for node in reversed(self.nodes):
            if used & set(node.output):
                kept.append(node)
                used.update(node.input)
        nodes = [type(node).FromString(node.SerializeToString()) for node in kept[::-1]]
        tensors = [type(tensor).FromString(tensor.SerializeToString()) for name, tensor in self.constants.items()
                   if name in used]
        for field, items in ((self.proto.node, nodes), (self.proto.initializer, tensors)):
            del field[:]
            field.extend(items)


def shape_of(value):
    """A value's shape without the first axis; 0 for what is not known."""
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim][1:]


def attributes(node):
    """A node's attributes as a dict."""
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def rewrite(model):
    """All rewrites, in place. Returns how often each was applied."""
    graph = Graph(model)
    done = {function.__name__: function(graph) for function in REWRITES}
    graph.write()
    return done


def without_identities(graph):
    """Remove ``Identity``, so that the other rewrites see what follows what."""
    renamed, kept = {}, []
    for node in graph.nodes:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
        if node.op_type == "Identity" and node.output[0] not in graph.outputs:
            renamed[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    removed = len(graph.nodes) - len(kept)
    graph.nodes = kept
    return removed


def with_bias(graph):
    """``Conv`` and a constant ``(C, 1, 1)`` added to it: the constant becomes the convolution's bias."""
    readers, done = graph.readers(), 0
    for node in list(graph.nodes):
        add = graph.alone(node.output[0], readers) if node.op_type == "Conv" and len(node.input) == 2 else None
        if add is None or add.op_type != "Add":
            continue
        bias = per_channel(graph, add, node.output[0])
        channels = graph.constants[node.input[1]].dims[0] if node.input[1] in graph.constants else None
        if bias is None or len(bias) != channels:
            continue
        new = helper.make_node("Conv", [*node.input, graph.constant(bias)], add.output, node.name, **attributes(node))
        graph.replace([node, add], [new])
        done += 1
    return done


def as_convolution(graph):
    """``Reshape`` to ``(N, C, V·T)``, product with a constant from the left, maybe ``Add``, ``Reshape``: a convolution.

    The last ``Reshape`` stays: the convolution gives the same numbers in the same order.
    """
    readers, makers, done = graph.readers(), graph.makers(), 0
    for product in [node for node in graph.nodes if node.op_type == "MatMul"]:
        weight, flat = graph.array(product.input[0]), makers.get(product.input[1])
        if weight is None or weight.ndim != 2 or flat is None or flat.op_type != "Reshape":
            continue
        shape, steps, names = graph.shape(flat.input[0]), [product], []
        if shape is None or len(shape) != 3 or graph.shape(flat.output[0]) != [shape[0], shape[1] * shape[2]]:
            continue
        after = graph.alone(product.output[0], readers)
        if after is not None and after.op_type == "Add":
            bias = graph.array(next((name for name in after.input if name != product.output[0]), None))
            if bias is None or bias.shape not in ((len(weight), 1), (1, len(weight), 1)):
                continue
            steps, names = [product, after], [graph.constant(bias.reshape(-1))]
            after = graph.alone(after.output[0], readers)
        if after is None or after.op_type != "Reshape":
            continue
        names.insert(0, graph.constant(weight[:, :, None, None]))
        result = f"{steps[-1].output[0]}.conv"
        graph.replace(steps, [helper.make_node("Conv", [flat.input[0], *names], [result], kernel_shape=[1, 1])])
        after.input[0] = result
        done += 1
    return done


def per_channel(graph, node, other):
    """The constant ``(C, 1, 1)`` or ``(1, C, 1, 1)`` beside the value ``other``, as ``(C,)``; None: there is none."""
    names = [name for name in node.input if name != other]
    array = graph.array(names[0]) if len(names) == 1 else None
    if array is None or array.ndim not in (3, 4) or array.shape[-2:] != (1, 1) or array.size != array.shape[-3]:
        return None
    return array.reshape(-1)


def split_apart(graph):
    """``Conv``, maybe ``Relu``, ``Split`` of the channels: a convolution for each part.

    A ``Split`` is done outside of the blocks, and everything that follows it is put into blocks again.
    """
    readers, makers, done = graph.readers(), graph.makers(), 0
    for split in [node for node in graph.nodes if node.op_type == "Split"]:
        chain = [makers.get(split.input[0])]
        if chain[0] is not None and chain[0].op_type == "Relu":
            chain.insert(0, makers.get(chain[0].input[0]))
        conv, sizes = chain[0], part_sizes(graph, split)
        if (conv is None or conv.op_type != "Conv" or sizes is None or attributes(split).get("axis", 0) != 1
                or attributes(conv).get("group", 1) != 1 or any(name not in graph.constants for name in conv.input[1:])
                or not all(graph.alone(node.output[0], readers) for node in chain)):
            continue
        ends, new = np.cumsum(sizes), []
        for output, start, end in zip(split.output, ends - sizes, ends):
            parts = [graph.constant(graph.array(name)[start:end]) for name in conv.input[1:]]
            middle = f"{output}.conv" if len(chain) > 1 else output
            new.append(helper.make_node("Conv", [conv.input[0], *parts], [middle], **attributes(conv)))
            if len(chain) > 1:
                new.append(helper.make_node("Relu", [middle], [output]))
        graph.replace([*chain, split], new)
        done += 1
    return done


def pooled_in_blocks(graph):
    """A constant ``(C, 1, 1)`` added to what a pooling gives, or multiplied with it: a convolution of each channel.

    Among convolutions an ``Add`` of a constant is the one step that is done outside of the blocks.
    """
    readers, done = graph.readers(), 0
    for pool in [node for node in graph.nodes if node.op_type == "MaxPool"]:
        steps, value, scale, shift = [], pool.output[0], 1, 0
        while (step := graph.alone(value, readers)) is not None and step.op_type in ELEMENTWISE:
            number = per_channel(graph, step, value)
            if number is None:
                break
            scale, shift = (scale * number, shift * number) if step.op_type == "Mul" else (scale, shift + number)
            steps.append(step)
            value = step.output[0]
        if not steps:
            continue
        channels = max(np.size(scale), np.size(shift))
        weight, bias = (np.broadcast_to(np.float32(number), channels) for number in (scale, shift))
        names = [graph.constant(weight.reshape(-1, 1, 1, 1)), graph.constant(bias)]
        graph.replace(steps, [helper.make_node("Conv", [pool.output[0], *names], [value], group=channels,
                                               kernel_shape=[1, 1])])
        done += 1
    return done


def residual_in_blocks(graph):
    """A product taken from something, maybe a constant ``(C, 1, 1)`` added: a convolution of each channel, and a sum.

    The sum is then a part of the convolution, and so is a ReLU after it; and what the product is taken from need not
    leave the blocks.
    """
    readers, makers, done = graph.readers(), graph.makers(), 0
    for sub in [node for node in graph.nodes if node.op_type == "Sub"]:
        whole, value = sub.input
        product = makers.get(value)
        if (product is None or product.op_type != "MatMul" or graph.alone(value, readers) is None
                or graph.shape(value) is None or len(graph.shape(value)) != 3
                or graph.shape(value) != graph.shape(whole)):
            continue
        steps, shift, channels = [sub], 0, graph.shape(value)[0]
        add = graph.alone(sub.output[0], readers)
        if add is not None and add.op_type == "Add":
            number = per_channel(graph, add, sub.output[0])
            if number is not None:
                steps, shift = [sub, add], number
        weight, bias = (np.broadcast_to(np.float32(number), channels) for number in (-1, shift))
        names = [graph.constant(weight.reshape(-1, 1, 1, 1)), graph.constant(bias)]
        result = steps[-1].output[0]
        graph.replace(steps, [
            helper.make_node("Conv", [value, *names], [f"{result}.conv"], group=channels, kernel_shape=[1, 1]),
            helper.make_node("Add", [f"{result}.conv", whole], [result])])
        done += 1
    return done


def stored_once(graph):
    """Constants that are the same become one."""
    renamed = first_equals(graph.constants.values())
    for node in graph.nodes:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    return sum(old != new for old, new in renamed.items())


def first_equals(tensors):
    """The name of each tensor → that of the first of them that is the same."""
    first, same = {}, {}
    for tensor in tensors:
        content = (tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes())
        same[tensor.name] = first.setdefault(content, tensor.name)
    return same


def part_sizes(graph, split):
    """The sizes of a ``Split``'s parts, of whichever opset; None where they are computed."""
    if len(split.input) > 1:
        return graph.array(split.input[1])
    sizes = attributes(split).get("split")
    return None if sizes is None else np.asarray(sizes)


REWRITES = (without_identities, as_convolution, with_bias, split_apart, pooled_in_blocks, residual_in_blocks,
            stored_once)
