"""Weights stored in half precision: what the numbers become, the file's size, and what is refused."""
import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from quantize_cases import CPU, PIPELINE, read_config
from tiny_export import logits, matrix, samples, write_export

from paddlevideo_skel.cli import run_command
from paddlevideo_skel.errors import ExportError
from paddlevideo_skel.export import quantize
from paddlevideo_skel.export.compact import halve_weights
from paddlevideo_skel.inference.artifact import METADATA, ONNX, relative_error
from paddlevideo_skel.inference.runtime import open_runtime


@pytest.fixture
def export(tmp_path):
    return write_export(tmp_path / "export", pipeline=PIPELINE)


def test_the_weights_are_rounded_and_nothing_else(export, tmp_path):
    made = quantize.store_in_half(read_config(tmp_path), export, tmp_path / "out")
    array = samples(5, 9)
    rounded = array.reshape(5, -1).astype("float64") @ matrix().astype("float16").astype("float64")
    with open_runtime(made, "onnxruntime", CPU) as runtime:
        found = runtime.run(array)
        assert max(runtime.errors.values()) <= 1e-4
    assert relative_error(found, rounded) < 1e-6 < relative_error(found, logits(array)) < 1e-3
    assert made.metadata["selfcheck"]["tolerance"] == 1e-4
    own = json.loads(made.file(METADATA).read_text())["quantization"]
    assert own["precision"] == "fp16" and own["tensors"] == 1
    assert own["test"]["top1"] == {"fp32": 100.0, "fp16": 100.0}
    kinds = {tensor.data_type for tensor in onnx.load(made.file(ONNX)).graph.initializer}
    assert onnx.TensorProto.FLOAT not in kinds and onnx.TensorProto.FLOAT16 in kinds
    assert onnx.load(made.file(ONNX)).graph.node[0].op_type == "Cast"


def test_small_constants_stay(tmp_path):
    model = onnx.helper.make_model(onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "b"], ["y"])], "small",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.full(3, 1 / 3, "float32"), "b")]))
    onnx.save(model, tmp_path / "a.onnx")
    assert halve_weights(tmp_path / "a.onnx", tmp_path / "b.onnx") == {"tensors": 0}
    constant, = onnx.load(tmp_path / "b.onnx").graph.initializer
    assert np.array_equal(numpy_helper.to_array(constant), np.full(3, 1 / 3, "float32"))


def test_a_weight_beyond_half_precision_is_refused(export, tmp_path):
    model = onnx.load(export.file(ONNX))
    weight = matrix()
    weight[3, 2] = 1e5
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(weight, "w"))
    onnx.save(model, export.file(ONNX))
    selfcheck = export.selfcheck()
    selfcheck.logits = (selfcheck.array.reshape(2, -1) @ weight).astype("float32")
    selfcheck.save(export.stem.with_name("tiny.selfcheck.npz"))
    with pytest.raises(ExportError, match=r"w: contains 1e\+05, but the largest half-precision number is 65504"):
        quantize.store_in_half(read_config(tmp_path), export, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_lost_sample_is_refused(export, tmp_path):
    array = samples(200, 4)
    right = logits(array)
    rounded = array.reshape(200, -1).astype("float64") @ matrix().astype("float16").astype("float64")
    # A sample half way between two classes, as near as float32 lets it be, answered otherwise after rounding.
    best = np.argsort(right, axis=1)[:, -2:]
    gap = np.take_along_axis(right, best, axis=1) @ [-1, 1]
    pull = (matrix()[:, best[:, 1]] - matrix()[:, best[:, 0]]).T.astype("float64")
    moved = array.reshape(200, -1) - pull * (gap / np.square(pull).sum(axis=1))[:, None]
    moved = moved.astype("float32").reshape(array.shape)
    flips = (logits(moved).argmax(axis=1) != (moved.reshape(200, -1).astype("float64")
                                              @ matrix().astype("float16").astype("float64")).argmax(axis=1))
    assert flips.sum() > 10 and relative_error(rounded, right) < 1e-3
    config = read_config(tmp_path, test=moved)
    with pytest.raises(ExportError, match="more than --max_drop 0"):
        quantize.store_in_half(config, export, tmp_path / "out")
    assert quantize.store_in_half(config, export, tmp_path / "out", max_drop=100).file(ONNX).is_file()


def test_the_command(capsys):
    assert run_command("quantize", ["-c", "none.yaml", "--model_dir", "none", "--float16"]) == 2
    assert capsys.readouterr().err.startswith("error: none.yaml: ")
