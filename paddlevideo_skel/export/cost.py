"""What a model costs: multiplications of its graph, counted in the ONNX model. Needs onnx, no paddle."""
import math

from ..errors import ExportError


def multiplications(path, batch=1):
    """Multiply-adds of all convolutions and matrix products for ``batch`` samples.

    Args:
        path: ONNX model whose first axis is the batch.

    Raises:
        ExportError: a shape that cannot be inferred, or a product of another kind (``ConvTranspose`` …).
    """
    import onnx
    from onnx import shape_inference

    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    graph = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
              for value in (*graph.input, *graph.value_info, *graph.output)}
    shapes.update({tensor.name: list(tensor.dims) for tensor in graph.initializer})
    shapes.update({node.output[0]: list(node.attribute[0].t.dims) for node in graph.node if node.op_type == "Constant"})

    def shape(name, node):
        if not all(shapes.get(name) or [0]):
            raise ExportError(path, f"the shape of {name} at {node.op_type} is not known: {shapes.get(name)}")
        return shapes[name]

    total = 0
    for node in graph.node:
        if node.op_type == "Conv":
            # Of the weight (O, I / groups, kernel …), each result needs all but the first axis.
            total += math.prod(shape(node.output[0], node)) * math.prod(shape(node.input[1], node)[1:])
        elif node.op_type == "MatMul":
            total += math.prod(shape(node.output[0], node)) * shape(node.input[0], node)[-1]
        elif node.op_type == "Gemm":
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            total += math.prod(shape(node.output[0], node)) * shape(node.input[0], node)[0 if transposed else 1]
        elif node.op_type == "Einsum":
            # One for each combination of all indices, of two factors; more of them a runtime would take by twos.
            terms = node.attribute[0].s.decode().replace(" ", "").partition("->")[0].split(",")
            if len(terms) != 2 or "..." in "".join(terms):
                raise ExportError(path, f"holds an Einsum of {','.join(terms)}, which is not counted here")
            total += math.prod({index: size for name, term in zip(node.input, terms)
                                for index, size in zip(term, shape(name, node))}.values())
        elif node.op_type in ("ConvTranspose", "ConvInteger", "MatMulInteger", "QLinearConv"):
            raise ExportError(path, f"holds {node.op_type}, whose multiplications are not counted here")
    return total
