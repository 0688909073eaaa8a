"""An export whose answers are a closed form, made without paddle: one matrix product of the whole input."""
import json

import numpy as np

from paddlevideo_skel.inference.artifact import METADATA, ONNX, SELFCHECK, ExportFolder, SelfCheck, write_metadata

SAMPLE, CLASSES = (3, 4, 5, 1), 6
PIPELINE = {"sample": [{"PreNormalize3D": None}], "transform": [{"FormatGCNInput": {"num_person": 1}}]}


def matrix(seed=0):
    """The product's matrix, (60, classes)."""
    return np.random.default_rng(seed).normal(0, 0.3, (int(np.prod(SAMPLE)), CLASSES)).astype("float32")


def samples(count, seed=1):
    """Inputs (count, 3, 4, 5, 1)."""
    return np.random.default_rng(seed).normal(0, 1, (count, *SAMPLE)).astype("float32")


def logits(array, seed=0):
    """The right answers, (n, classes), computed in float64."""
    return array.reshape(len(array), -1).astype("float64") @ matrix(seed)


def write_export(folder, name="tiny", batch=None, seed=0, onnx_error=1e-7, **changes):
    """An ONNX export for one batch size, or any; ``changes`` are entries of its metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / name
    write_onnx(stem.with_name(name + ONNX), batch, seed)
    array = samples(2, 7)
    SelfCheck(array, logits(array, seed).astype("float32")).save(stem.with_name(name + SELFCHECK))
    write_metadata({
        "format": 1, "model_name": "tiny", "input": {"name": "x", "shape": [batch or -1, *SAMPLE], "type": "float32"},
        "output": {"num_classes": CLASSES}, "pipeline": PIPELINE, "class_names": None, "top_k": 2,
        "selfcheck": {"file": name + SELFCHECK, "tolerance": 1e-4},
        "onnx": {"file": name + ONNX, "opset": 13, "relative_error": {"batch 1": onnx_error}}, **changes,
    }, stem.with_name(name + METADATA))
    return ExportFolder(stem)


def write_onnx(path, batch, seed):
    """``y = reshape(x, (batch, 60)) · matrix``."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    size = int(np.prod(SAMPLE))
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])]
    graph = helper.make_graph(
        nodes, "tiny", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch or "n", *SAMPLE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch or "n", CLASSES])],
        [numpy_helper.from_array(np.array([-1, size], "int64"), "shape"), numpy_helper.from_array(matrix(seed), "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)


def write_bin_folder(folder, array, **changes):
    """Samples (n, …) as a bin folder; ``changes`` are entries of its ``bins.json``."""
    (folder / "bin").mkdir(parents=True)
    for i, sample in enumerate(array):
        (folder / "bin" / f"{i:05d}.bin").write_bytes(sample.tobytes())
    (folder / "label.txt").write_text("".join(f"{i:05d}.bin {i % CLASSES} s{i}\n" for i in range(len(array))))
    (folder / "bins.json").write_text(json.dumps({
        "format": 1, "model_name": "tiny", "shape": list(array.shape[1:]), "type": "float32", "count": len(array),
        "num_classes": CLASSES, "class_names": None, "labels": True, "average": "logits", "source": {},
        "pipeline": PIPELINE, **changes}))
    return folder
