"""Rewrite float32 ONNX graphs for 8 bits: the same function in operators with fast integer kernels.

ONNX Runtime's integer convolutions take the channels last, its integer products first, so values that pass from one to
the other are transposed number by number; and an operator without an integer kernel is computed in float32. The
measured reasons are in ``docs/export.md``. The rewrites look for patterns and change nothing else.
"""
import numpy as np
from onnx import helper

from .onnx_graph import Graph, node_attributes


def rewrite_for_8_bits(model):
    """Apply all rewrites, in place."""
    graph = Graph(model)
    for rewrite in QDQ_REWRITES:
        rewrite(graph)
    graph.write()
    del model.graph.value_info[:]  # some shapes have changed


def restore_residual_sums(graph):
    """Undo ``ort_rewrites.convert_residuals``, because a depthwise convolution is slow in 8 bits.

    The minus sign of the product moves into the constants of the convolution that makes the product's second factor.
    """
    readers, makers = graph.readers(), graph.makers()
    for node in graph.nodes:
        weight = graph.array(node.input[1]) if node.op_type == "Conv" else None
        if weight is None or weight.shape[1:] != (1, 1, 1) or not (weight == -1).all() or len(node.input) != 3:
            continue
        product = makers.get(node.input[0])
        flat = product and product.op_type == "MatMul" and makers.get(product.input[1])
        source = flat and flat.op_type == "Reshape" and makers.get(flat.input[0])
        if (not source or source.op_type != "Conv"
                or not all(graph.only_reader(step.output[0], readers) for step in (product, flat, source))):
            continue
        source.input[1:] = [graph.add_constant(-graph.array(name)) for name in source.input[1:]]
        shift = graph.add_constant(graph.array(node.input[2]).reshape(-1, 1, 1))
        graph.replace([node], [helper.make_node("Add", [node.input[0], shift], node.output, node.name)])


def transpose_topologies_by_rows(graph):
    """Make CTR-GCN's topologies ``(N, C, V, K·V)`` with a transposition that moves whole rows.

    They are weighted sums of relations ``(N, K·R, V·V)``, by a block-diagonal matrix of K blocks ``(C·K, K·R)``, then
    transposed. Here the relations are computed with the two joints swapped, so that the transposition moves rows of V
    numbers instead of single numbers; and the matrix becomes a convolution of K groups, which does not multiply by the
    zeros between the blocks. (In float32 a product transposes for free, and the matrix is faster.)
    """
    readers, makers = graph.readers(), graph.makers()
    for turn in [node for node in graph.nodes if node.op_type == "Transpose"]:
        flat = makers.get(turn.input[0])
        product = makers.get(flat.input[0]) if flat is not None and flat.op_type == "Reshape" else None
        size = graph.array(flat.input[1]) if product is not None and product.op_type == "MatMul" else None
        if (size is None or node_attributes(turn)["perm"] != [0, 1, 3, 2] or size.size != 4 or min(size[1:]) < 1
                or size[2] % size[3]
                or not all(graph.only_reader(node.output[0], readers) for node in (flat, product))):
            continue
        width, subsets, joints = int(size[1]), int(size[2] // size[3]), int(size[3])
        blocks = block_weights(graph.array(product.input[0]), width, subsets)
        sides = constants_on_last_axis(graph, product.input[1], joints ** 2, makers, readers)
        if blocks is None or sides is None:
            continue
        for reader, place in sides:
            side = graph.array(reader.input[place])
            turned = side.reshape(*side.shape[:-1], joints, joints).swapaxes(-1, -2).reshape(side.shape)
            reader.input[place] = graph.add_constant(turned)
        names = [f"{turn.output[0]}.{step}" for step in ("flat", "parts", "rows")]
        parts, whole = (graph.add_constant(np.array(shape, "int64")) for shape in (
            [-1, subsets, width, joints, joints], [-1, width, joints, subsets * joints]))
        graph.replace([product, flat, turn], [
            helper.make_node("Conv", [product.input[1], graph.add_constant(blocks)], names[:1], kernel_shape=[1],
                             group=subsets),
            helper.make_node("Reshape", [names[0], parts], names[1:2]),
            helper.make_node("Transpose", names[1:2], names[2:], perm=[0, 2, 3, 1, 4]),
            helper.make_node("Reshape", [names[2], whole], turn.output)])


def block_weights(matrix, width, subsets):
    """A block-diagonal matrix ``(C·K, K·R)`` as the weight ``(K·C, R, 1)`` of a convolution of K groups; else None."""
    if matrix is None or matrix.ndim != 2 or len(matrix) != width * subsets or matrix.shape[1] % subsets:
        return None
    parts = matrix.reshape(width, subsets, subsets, -1)  # (C, K, K, R), nonzero only where both K are equal
    if (parts * ~np.eye(subsets, dtype=bool)[:, :, None]).any():
        return None
    return np.concatenate([parts[:, k, k] for k in range(subsets)])[..., None]


def constants_on_last_axis(graph, name, size, makers, readers):
    """The constants ``(node, input index)`` that set the last axis of the value ``name``; None if not all are known."""
    node = makers.get(name)
    if node is None or graph.only_reader(name, readers) is None:
        return None
    known = {place: graph.array(source) for place, source in enumerate(node.input) if source in graph.constants}
    if node.op_type == "MatMul" and list(known) == [1]:
        return [(node, 1)] if known[1].shape[-1] == size else None
    if node.op_type not in ("Add", "Tanh"):
        return None
    if not {array.shape[-1:] for array in known.values()} <= {(size,), (1,)}:
        return None
    sides = [(node, place) for place, array in known.items() if array.shape[-1:] == (size,)]
    for place, source in enumerate(node.input):
        if place not in known:
            others = constants_on_last_axis(graph, source, size, makers, readers)
            if others is None:
                return None
            sides += others
    return sides


def convert_products(graph):
    """Turn ``MatMul`` of a constant matrix and a value ``(N, C, L)`` into a pointwise ``Conv``.

    It is the same product, but ONNX Runtime packs the weights of an integer convolution in advance, and not those of a
    product whose first factor is the constant.
    """
    for node in [node for node in graph.nodes if node.op_type == "MatMul"]:
        weight, shape = graph.array(node.input[0]), graph.shape(node.input[1])
        if weight is not None and weight.ndim == 2 and shape is not None and len(shape) == 2:
            names = [node.input[1], graph.add_constant(weight[..., None])]
            graph.replace([node], [helper.make_node("Conv", names, node.output, node.name, kernel_shape=[1])])


def replace_tanh(graph):
    """Replace CTR-GCN's ``tanh(x) + A``, weighted by a convolution, by a ``Sigmoid``, a lookup table in 8 bits.

    tanh(x) = 2 sigmoid(2x) - 1: the factors go into the constants before and after, the 1 into the convolution's bias.
    """
    readers, makers = graph.readers(), graph.makers()
    for tanh in [node for node in graph.nodes if node.op_type == "Tanh"]:
        product, add = makers.get(tanh.input[0]), graph.only_reader(tanh.output[0], readers)
        conv = graph.only_reader(add.output[0], readers) if add is not None and add.op_type == "Add" else None
        if (product is None or product.op_type != "MatMul" or graph.only_reader(tanh.input[0], readers) is None
                or conv is None or conv.op_type != "Conv" or len(conv.input) > 2):
            continue
        place = 1 - list(add.input).index(tanh.output[0])
        before, shared, weight = map(graph.array, (product.input[1], add.input[place], conv.input[1]))
        if before is None or shared is None or weight is None:
            continue
        bias = -weight.reshape(len(weight), -1).sum(axis=1, dtype="float64")
        product.input[1], add.input[place] = graph.add_constant(2 * before), graph.add_constant(shared / 2)
        conv.input[1:] = [graph.add_constant(2 * weight), graph.add_constant(bias.astype("float32"))]
        tanh.op_type = "Sigmoid"


def convert_means(graph):
    """Turn ``AveragePool``, which has no integer kernel, into a depthwise convolution."""
    for pool in [node for node in graph.nodes if node.op_type == "AveragePool"]:
        shape, given = graph.shape(pool.input[0]), node_attributes(pool)
        whole = (not any(given.get("pads", ())) and not given.get("ceil_mode", 0)
                 and set(given.get("dilations", ())) <= {1})
        if shape is None or not whole or given.get("auto_pad", b"NOTSET") != b"NOTSET":
            continue
        size = given["kernel_shape"]
        weight = graph.add_constant(np.full((shape[0], 1, *size), 1 / np.prod(size), "float32"))
        graph.replace([pool], [helper.make_node("Conv", [pool.input[0], weight], pool.output, pool.name, group=shape[0],
                                                kernel_shape=size, strides=given.get("strides", [1] * len(size)))])


QDQ_REWRITES = (restore_residual_sums, transpose_topologies_by_rows, convert_products, replace_tanh, convert_means)
