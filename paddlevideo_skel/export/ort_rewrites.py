"""Rewrite ONNX graphs for ONNX Runtime's CPU provider: the same function in operators that are faster there.

ONNX Runtime computes convolutions, pooling and elementwise operators between them in blocks of 16 channels, and copies
a value whenever it passes from such an operator to any other or back. So a chain of convolutions should not be
interrupted without need. The rewrites look for patterns in any graph and change nothing else. The measured reasons are
in ``docs/performance.md``.

Nothing here verifies the rewritten graph: callers compare its results.
"""
import numpy as np
from onnx import helper, numpy_helper

from .onnx_graph import Graph, node_attributes

ELEMENTWISE = ("Add", "Mul")


def rewrite_for_ort(model):
    """Apply all rewrites, in place.

    Returns:
        how often each was applied, by its name in the metadata.
    """
    graph = Graph(model)
    applied = {name: rewrite(graph) for name, rewrite in ORT_REWRITES.items()}
    graph.write()
    return applied


def remove_identities(graph):
    """Remove ``Identity``, so that the other rewrites see adjacent operators."""
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


def fuse_biases(graph):
    """Make a constant ``(C, 1, 1)`` that is added to a ``Conv`` its bias."""
    readers, done = graph.readers(), 0
    for node in list(graph.nodes):
        add = graph.only_reader(node.output[0], readers) if node.op_type == "Conv" and len(node.input) == 2 else None
        if add is None or add.op_type != "Add":
            continue
        bias = per_channel(graph, add, node.output[0])
        channels = graph.constants[node.input[1]].dims[0] if node.input[1] in graph.constants else None
        if bias is None or len(bias) != channels:
            continue
        new = helper.make_node("Conv", [*node.input, graph.add_constant(bias)], add.output, node.name,
                               **node_attributes(node))
        graph.replace([node, add], [new])
        done += 1
    return done


def convert_flat_products(graph):
    """Turn ``Reshape`` to ``(N, C, V·T)``, product with a constant on the left, maybe ``Add``, into a convolution.

    The ``Reshape`` that must follow stays: the convolution gives the same numbers in the same order.
    """
    readers, makers, done = graph.readers(), graph.makers(), 0
    for product in [node for node in graph.nodes if node.op_type == "MatMul"]:
        weight, flat = graph.array(product.input[0]), makers.get(product.input[1])
        if weight is None or weight.ndim != 2 or flat is None or flat.op_type != "Reshape":
            continue
        shape, steps, names = graph.shape(flat.input[0]), [product], []
        if shape is None or len(shape) != 3 or graph.shape(flat.output[0]) != [shape[0], shape[1] * shape[2]]:
            continue
        after = graph.only_reader(product.output[0], readers)
        if after is not None and after.op_type == "Add":
            bias = graph.array(next((name for name in after.input if name != product.output[0]), None))
            if bias is None or bias.shape not in ((len(weight), 1), (1, len(weight), 1)):
                continue
            steps, names = [product, after], [graph.add_constant(bias.reshape(-1))]
            after = graph.only_reader(after.output[0], readers)
        if after is None or after.op_type != "Reshape":
            continue
        names.insert(0, graph.add_constant(weight[:, :, None, None]))
        result = f"{steps[-1].output[0]}.conv"
        graph.replace(steps, [helper.make_node("Conv", [flat.input[0], *names], [result], kernel_shape=[1, 1])])
        after.input[0] = result
        done += 1
    return done


def per_channel(graph, node, other):
    """The constant ``(C, 1, 1)`` or ``(1, C, 1, 1)`` that a node combines with ``other``, as ``(C,)``; else None."""
    names = [name for name in node.input if name != other]
    array = graph.array(names[0]) if len(names) == 1 else None
    if array is None or array.ndim not in (3, 4) or array.shape[-2:] != (1, 1) or array.size != array.shape[-3]:
        return None
    return array.reshape(-1)


def divide_convolutions(graph):
    """Turn ``Conv``, maybe ``Relu``, ``Split`` of the channels into one convolution per part.

    A ``Split`` is computed outside the blocks, and everything that follows it is copied into blocks again.
    """
    readers, makers, done = graph.readers(), graph.makers(), 0
    for split in [node for node in graph.nodes if node.op_type == "Split"]:
        chain = [makers.get(split.input[0])]
        if chain[0] is not None and chain[0].op_type == "Relu":
            chain.insert(0, makers.get(chain[0].input[0]))
        conv, sizes = chain[0], part_sizes(graph, split)
        if (conv is None or conv.op_type != "Conv" or sizes is None or node_attributes(split).get("axis", 0) != 1
                or node_attributes(conv).get("group", 1) != 1
                or any(name not in graph.constants for name in conv.input[1:])
                or not all(graph.only_reader(node.output[0], readers) for node in chain)):
            continue
        ends, new = np.cumsum(sizes), []
        for output, start, end in zip(split.output, ends - sizes, ends):
            parts = [graph.add_constant(graph.array(name)[start:end]) for name in conv.input[1:]]
            middle = f"{output}.conv" if len(chain) > 1 else output
            new.append(helper.make_node("Conv", [conv.input[0], *parts], [middle], **node_attributes(conv)))
            if len(chain) > 1:
                new.append(helper.make_node("Relu", [middle], [output]))
        graph.replace([*chain, split], new)
        done += 1
    return done


def convert_scales_after_pooling(graph):
    """Turn scales and shifts ``(C, 1, 1)`` after a pooling into a depthwise convolution.

    Among convolutions, adding a constant is the one step that is computed outside the blocks.
    """
    readers, done = graph.readers(), 0
    for pool in [node for node in graph.nodes if node.op_type == "MaxPool"]:
        steps, value, scale, shift = [], pool.output[0], 1, 0
        while (step := graph.only_reader(value, readers)) is not None and step.op_type in ELEMENTWISE:
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
        names = [graph.add_constant(weight.reshape(-1, 1, 1, 1)), graph.add_constant(bias)]
        graph.replace(steps, [helper.make_node("Conv", [pool.output[0], *names], [value], group=channels,
                                               kernel_shape=[1, 1])])
        done += 1
    return done


def convert_residuals(graph):
    """Turn ``x - product``, maybe plus a constant ``(C, 1, 1)``, into a depthwise convolution and a sum.

    ONNX Runtime then fuses the sum, and a ReLU after it, into the convolution; and ``x`` need not leave the blocks.
    """
    readers, makers, done = graph.readers(), graph.makers(), 0
    for sub in [node for node in graph.nodes if node.op_type == "Sub"]:
        whole, value = sub.input
        product = makers.get(value)
        if (product is None or product.op_type != "MatMul" or graph.only_reader(value, readers) is None
                or graph.shape(value) is None or len(graph.shape(value)) != 3
                or graph.shape(value) != graph.shape(whole)):
            continue
        steps, shift, channels = [sub], 0, graph.shape(value)[0]
        add = graph.only_reader(sub.output[0], readers)
        if add is not None and add.op_type == "Add":
            number = per_channel(graph, add, sub.output[0])
            if number is not None:
                steps, shift = [sub, add], number
        weight, bias = (np.broadcast_to(np.float32(number), channels) for number in (-1, shift))
        names = [graph.add_constant(weight.reshape(-1, 1, 1, 1)), graph.add_constant(bias)]
        result = steps[-1].output[0]
        graph.replace(steps, [
            helper.make_node("Conv", [value, *names], [f"{result}.conv"], group=channels, kernel_shape=[1, 1]),
            helper.make_node("Add", [f"{result}.conv", whole], [result])])
        done += 1
    return done


def merge_equal_constants(graph):
    """Store equal constants once; returns how many were dropped."""
    renamed = first_equals(graph.constants.values())
    for node in graph.nodes:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    return sum(old != new for old, new in renamed.items())


def first_equals(tensors):
    """``{name: name of the first equal tensor}``"""
    first, same = {}, {}
    for tensor in tensors:
        content = (tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes())
        same[tensor.name] = first.setdefault(content, tensor.name)
    return same


def part_sizes(graph, split):
    """The sizes of a ``Split``'s parts, at any opset; None if they are computed."""
    if len(split.input) > 1:
        return graph.array(split.input[1])
    sizes = node_attributes(split).get("split")
    return None if sizes is None else np.asarray(sizes)


ORT_REWRITES = {
    "without_identities": remove_identities, "as_convolution": convert_flat_products, "with_bias": fuse_biases,
    "split_apart": divide_convolutions, "pooled_in_blocks": convert_scales_after_pooling,
    "residual_in_blocks": convert_residuals, "stored_once": merge_equal_constants}
