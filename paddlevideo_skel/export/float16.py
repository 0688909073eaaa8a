"""Weights stored in half precision: half the file, the same speed.

Each large constant becomes a float16 one and a ``Cast`` to float32 after it. A runtime computes the casts once, when it
opens the model, and then has the float32 constants that it would have had, rounded to 11 bits.
"""
import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..errors import ExportError

# Numbers: below this a Cast would take as much room as it saves.
MIN_SIZE = 128


def shrink(source, path):
    """Write the model of ``source`` to ``path`` with its float32 constants in half precision; returns what was done.

    Raises:
        ExportError: a weight is too large for half precision.
    """
    from .qdq import compact

    model = onnx.load(source)
    kept, casts = [], []
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype != np.float32 or array.size < MIN_SIZE:
            kept.append(tensor)
            continue
        if np.abs(array).max() > np.finfo("float16").max:
            raise ExportError(f"{source}: {tensor.name}", f"holds {np.abs(array).max():.3g}, half precision ends at "
                              f"{np.finfo('float16').max:.0f}", "Keep the float32 export")
        kept.append(numpy_helper.from_array(array.astype("float16"), f"{tensor.name}.half"))
        casts.append(helper.make_node("Cast", [kept[-1].name], [tensor.name], to=onnx.TensorProto.FLOAT))
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]
    kept = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend([*casts, *nodes])
    compact(model)
    onnx.save(model, path)
    return {"tensors": len(casts)}
