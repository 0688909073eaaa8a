"""Make ONNX files smaller, with the same function: store equal constants once, and weights in half precision."""
import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..errors import ExportError
from .onnx_graph import replace_items
from .ort_rewrites import first_equals

MIN_HALVED_SIZE = 128  # elements; for smaller constants the Cast takes as much space as it saves
MIN_REPEATED_SIZE = 1024  # elements; smaller constants are not searched for equal rows


def halve_weights(source, path):
    """Write the model ``source`` to ``path`` with its large float32 constants in float16.

    A ``Cast`` to float32 follows each of them. Runtimes compute the casts once, when they open the model, and then
    have float32 constants rounded to 11 bits.

    Returns:
        an entry for the metadata.

    Raises:
        ExportError: a weight exceeds the range of half precision.
    """
    model = onnx.load(source)
    constants, casts = [], []
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype != np.float32 or array.size < MIN_HALVED_SIZE:
            constants.append(tensor)
            continue
        if np.abs(array).max() > np.finfo("float16").max:
            raise ExportError(f"{source}: {tensor.name}", f"contains {np.abs(array).max():.3g}, but the largest "
                              f"half-precision number is {np.finfo('float16').max:.0f}", "Keep the float32 export")
        constants.append(numpy_helper.from_array(array.astype("float16"), f"{tensor.name}.half"))
        casts.append(helper.make_node("Cast", [constants[-1].name], [tensor.name], to=onnx.TensorProto.FLOAT))
    replace_items(model.graph.initializer, constants)
    replace_items(model.graph.node, [*casts, *model.graph.node])
    compact(model)
    onnx.save(model, path)
    return {"tensors": len(casts)}


def compact(model):
    """Make a model's file smaller, in place: store equal constants and equal rows once, shorten names, drop
    documentation.

    A quantised model has hundreds of scales and zero points, with names longer than their values.
    """
    graph = model.graph
    store_rows_once(graph)
    same = first_equals(graph.initializer)
    constants = [numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name) for tensor in graph.initializer
                 if same[tensor.name] == tensor.name]
    names = {value.name: value.name for value in (*graph.input, *graph.output)} | {"": ""}
    for name in (*(tensor.name for tensor in constants), *(name for node in graph.node for name in node.output)):
        names.setdefault(name, f"v{len(names)}")
    for node in graph.node:
        node.ClearField("name")
        node.ClearField("doc_string")
        node.input[:] = [names[same.get(name, name)] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    for tensor in constants:
        tensor.name = names[tensor.name]
    del graph.value_info[:], model.metadata_props[:], graph.metadata_props[:]
    replace_items(graph.initializer, constants)


def store_rows_once(graph):
    """Replace constants with many equal rows, mostly blocks of zeros, by the different rows and a ``Gather``, in place.

    Runtimes compute the constant once, when they open the model.
    """
    constants, gathers = [], []
    for tensor in graph.initializer:
        array = numpy_helper.to_array(tensor)
        rows, index = fewest_rows(array)
        if rows is None:
            constants.append(tensor)
            continue
        name = tensor.name
        parts = {"rows": rows, "index": index.astype("int32"), "shape": np.array(array.shape, "int64")}
        constants += [numpy_helper.from_array(part, f"{name}.{key}") for key, part in parts.items()]
        gathers += [helper.make_node("Gather", [f"{name}.rows", f"{name}.index"], [f"{name}.all"], axis=0),
                    helper.make_node("Reshape", [f"{name}.all", f"{name}.shape"], [name])]
    replace_items(graph.initializer, constants)
    replace_items(graph.node, [*gathers, *graph.node])


def fewest_rows(array):
    """The different rows of an array that repeats one number often, and the index that restores the array.

    Tries all row lengths and takes the one that needs the least space.

    Returns:
        ``(rows, index)``, with ``rows[index]`` the array's numbers in order; ``(None, None)`` if that would save less
        than a quarter.
    """
    best, least = (None, None), 0.75 * array.nbytes
    if (array.ndim < 2 or array.size < MIN_REPEATED_SIZE
            or np.unique(array, return_counts=True)[1].max() < array.size / 4):
        return best
    per_row = array.size // len(array)
    for length in range(1, per_row + 1):
        if per_row % length or array.size // length * 4 > least:
            continue
        rows, index = np.unique(array.reshape(-1, length), axis=0, return_inverse=True)
        if rows.nbytes + 4 * index.size < least:
            best, least = (rows, index.reshape(-1)), rows.nbytes + 4 * index.size
    return best
