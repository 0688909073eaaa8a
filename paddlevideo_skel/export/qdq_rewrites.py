"""A float32 ONNX graph rewritten for 8 bits: the same function in operators for which there are fast integer kernels.

ONNX Runtime's integer convolutions want the channels last and its integer products want them first, so that what goes
from one to the other is transposed, number by number; and an operator without an integer kernel is computed in float32.
The measured reasons are in ``docs/export.md``. Every rewrite here changes nothing where its pattern is not found.
"""
import numpy as np
from onnx import helper

from .ort_rewrites import Graph, attributes


def rewrite_for_8_bits(model):
    """All rewrites, in place."""
    graph = Graph(model)
    for function in REWRITES:
        function(graph)
    graph.write()
    del model.graph.value_info[:]  # some shapes have changed


def residuals_as_sums(graph):
    """Undo ``onnx_rewrites.residual_in_blocks``: a convolution of each channel is slow in 8 bits.

    The sign that it gave to the product goes to the constants of the convolution that made the product's second factor.
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
                or not all(graph.alone(step.output[0], readers) for step in (product, flat, source))):
            continue
        source.input[1:] = [graph.constant(-graph.array(name)) for name in source.input[1:]]
        shift = graph.constant(graph.array(node.input[2]).reshape(-1, 1, 1))
        graph.replace([node], [helper.make_node("Add", [node.input[0], shift], node.output, node.name)])


def topologies_by_rows(graph):
    """Make CTR-GCN's topologies ``(N, C, V, K·V)`` such that nearly nothing is left of their transposition.

    They are weighed sums of relations ``(N, K·R, V·V)``, by a matrix of K blocks ``(C·K, K·R)``, transposed. Here the
    relations are made from the other joint's side, so that rows of V numbers are moved and not number by number; and
    the matrix becomes a convolution of K groups, which does not multiply with the zeros between the blocks. (In float32
    a product transposes on the way, and that matrix is the faster form.)
    """
    readers, makers = graph.readers(), graph.makers()
    for turn in [node for node in graph.nodes if node.op_type == "Transpose"]:
        flat = makers.get(turn.input[0])
        product = makers.get(flat.input[0]) if flat is not None and flat.op_type == "Reshape" else None
        size = graph.array(flat.input[1]) if product is not None and product.op_type == "MatMul" else None
        if (size is None or attributes(turn)["perm"] != [0, 1, 3, 2] or size.size != 4 or min(size[1:]) < 1
                or size[2] % size[3] or not all(graph.alone(node.output[0], readers) for node in (flat, product))):
            continue
        width, subsets, joints = int(size[1]), int(size[2] // size[3]), int(size[3])
        blocks = weights_of_blocks(graph.array(product.input[0]), width, subsets)
        sides = from_other_side(graph, product.input[1], joints ** 2, makers, readers)
        if blocks is None or sides is None:
            continue
        for reader, place in sides:
            side = graph.array(reader.input[place])
            turned = side.reshape(*side.shape[:-1], joints, joints).swapaxes(-1, -2).reshape(side.shape)
            reader.input[place] = graph.constant(turned)
        names = [f"{turn.output[0]}.{step}" for step in ("flat", "parts", "rows")]
        parts, whole = (graph.constant(np.array(shape, "int64")) for shape in (
            [-1, subsets, width, joints, joints], [-1, width, joints, subsets * joints]))
        graph.replace([product, flat, turn], [
            helper.make_node("Conv", [product.input[1], graph.constant(blocks)], names[:1], kernel_shape=[1],
                             group=subsets),
            helper.make_node("Reshape", [names[0], parts], names[1:2]),
            helper.make_node("Transpose", names[1:2], names[2:], perm=[0, 2, 3, 1, 4]),
            helper.make_node("Reshape", [names[2], whole], turn.output)])


def weights_of_blocks(matrix, width, subsets):
    """A matrix ``(C·K, K·R)`` of K blocks as a convolution's weight ``(K·C, R, 1)`` of K groups; None: it is other."""
    if matrix is None or matrix.ndim != 2 or len(matrix) != width * subsets or matrix.shape[1] % subsets:
        return None
    parts = matrix.reshape(width, subsets, subsets, -1)  # (C, K, K, R), where only equal K are not zero
    if (parts * ~np.eye(subsets, dtype=bool)[:, :, None]).any():
        return None
    return np.concatenate([parts[:, k, k] for k in range(subsets)])[..., None]


def from_other_side(graph, name, size, makers, readers):
    """The constants ``(node, place)`` whose last axis is that of the value ``name``; None if there may be others."""
    node = makers.get(name)
    if node is None or graph.alone(name, readers) is None:
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
            others = from_other_side(graph, source, size, makers, readers)
            if others is None:
                return None
            sides += others
    return sides


def products_as_convolutions(graph):
    """Write ``MatMul`` of a constant matrix and a value ``(N, C, L)`` as a pointwise ``Conv``.

    The same product; but of a convolution the quantiser makes an integer operator that has its weights ready, of a
    product whose first factor is the constant it does not.
    """
    for node in [node for node in graph.nodes if node.op_type == "MatMul"]:
        weight, shape = graph.array(node.input[0]), graph.shape(node.input[1])
        if weight is not None and weight.ndim == 2 and shape is not None and len(shape) == 2:
            names = [node.input[1], graph.constant(weight[..., None])]
            graph.replace([node], [helper.make_node("Conv", names, node.output, node.name, kernel_shape=[1])])


def tanh_as_sigmoid(graph):
    """Write CTR-GCN's ``tanh(x) + A``, weighed by a convolution, with ``Sigmoid``, which of 8 bits is a table.

    tanh(x) = 2 sigmoid(2x) - 1: the doubling goes into the constants before and after, the 1 into the convolution's
    bias.
    """
    readers, makers = graph.readers(), graph.makers()
    for tanh in [node for node in graph.nodes if node.op_type == "Tanh"]:
        product, add = makers.get(tanh.input[0]), graph.alone(tanh.output[0], readers)
        conv = graph.alone(add.output[0], readers) if add is not None and add.op_type == "Add" else None
        if (product is None or product.op_type != "MatMul" or graph.alone(tanh.input[0], readers) is None
                or conv is None or conv.op_type != "Conv" or len(conv.input) > 2):
            continue
        place = 1 - list(add.input).index(tanh.output[0])
        before, shared, weight = map(graph.array, (product.input[1], add.input[place], conv.input[1]))
        if before is None or shared is None or weight is None:
            continue
        bias = -weight.reshape(len(weight), -1).sum(axis=1, dtype="float64")
        product.input[1], add.input[place] = graph.constant(2 * before), graph.constant(shared / 2)
        conv.input[1:] = [graph.constant(2 * weight), graph.constant(bias.astype("float32"))]
        tanh.op_type = "Sigmoid"


def means_as_convolutions(graph):
    """Write ``AveragePool`` as a convolution of each channel: it has no integer kernel."""
    for pool in [node for node in graph.nodes if node.op_type == "AveragePool"]:
        shape, told = graph.shape(pool.input[0]), attributes(pool)
        whole = not any(told.get("pads", ())) and not told.get("ceil_mode", 0) and set(told.get("dilations", ())) <= {1}
        if shape is None or not whole or told.get("auto_pad", b"NOTSET") != b"NOTSET":
            continue
        size = told["kernel_shape"]
        weight = graph.constant(np.full((shape[0], 1, *size), 1 / np.prod(size), "float32"))
        graph.replace([pool], [helper.make_node("Conv", [pool.input[0], weight], pool.output, pool.name, group=shape[0],
                                                kernel_shape=size, strides=told.get("strides", [1] * len(size)))])


REWRITES = (residuals_as_sums, topologies_by_rows, products_as_convolutions, tanh_as_sigmoid, means_as_convolutions)
