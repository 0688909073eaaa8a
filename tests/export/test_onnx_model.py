"""Multiplications are counted as one counts them by hand."""
import numpy as np
import pytest

from paddlevideo_skel.errors import ExportError

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from paddlevideo_skel.export.onnx_model import count_multiplications  # noqa: E402


def model(path, nodes, shape, **weights):
    """A graph of ``nodes`` from ``x`` of ``shape`` to ``y``."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    constants = [numpy_helper.from_array(np.zeros(size, "float32"), name) for name, size in weights.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), path)
    return path


@pytest.mark.parametrize("batch", [1, 5])
def test_a_convolution_in_groups(tmp_path, batch):
    # (8, 10, 7), stride 2 over the first axis: 12 channels of 5×7, each from 8 / 4 channels of 3×1.
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=4, strides=[2, 1], pads=[1, 0, 1, 0])
    path = model(tmp_path / "m.onnx", [node], ["N", 8, 10, 7], w=(12, 2, 3, 1))
    assert count_multiplications(path, batch) == batch * 12 * 5 * 7 * 2 * 3


def test_products_one_after_another(tmp_path):
    nodes = [helper.make_node("MatMul", ["x", "a"], ["h"]), helper.make_node("Relu", ["h"], ["r"]),
             helper.make_node("ReduceMean", ["r"], ["m"], axes=[1], keepdims=0),
             helper.make_node("Gemm", ["m", "w", "b"], ["y"], transB=1)]
    path = model(tmp_path / "m.onnx", nodes, ["N", 6, 4], a=(4, 9), w=(3, 9), b=(3,))
    assert count_multiplications(path) == 6 * 4 * 9 + 3 * 9
    nodes[-1] = helper.make_node("Gemm", ["w", "m", "b"], ["y"], transA=1, transB=1)
    path = model(tmp_path / "t.onnx", nodes, ["N", 6, 4], a=(4, 9), w=(9, 3), b=(1,))
    assert count_multiplications(path) == 6 * 4 * 9 + 3 * 9


def test_an_einsum_of_two(tmp_path):
    node = helper.make_node("Einsum", ["x", "w"], ["y"], equation="nkctv, kvw -> nctw")
    path = model(tmp_path / "m.onnx", [node], ["N", 3, 4, 6, 5], w=(3, 5, 7))
    assert count_multiplications(path, 2) == 2 * 3 * 4 * 6 * 5 * 7


@pytest.mark.parametrize("equation, weights", [("nc,ck,kd->nd", {"w": (4, 2), "v": (2, 3)}),
                                               ("...c,ck->...k", {"w": (4, 2)})])
def test_another_einsum_is_told(tmp_path, equation, weights):
    node = helper.make_node("Einsum", ["x", *weights], ["y"], equation=equation)
    with pytest.raises(ExportError, match="Einsum"):
        count_multiplications(model(tmp_path / "m.onnx", [node], ["N", 4], **weights))


def test_what_cannot_be_counted_is_told(tmp_path):
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"])
    with pytest.raises(ExportError, match="ConvTranspose"):
        count_multiplications(model(tmp_path / "m.onnx", [node], ["N", 4, 5, 5], w=(4, 2, 3, 3)))
    nodes = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("RandomUniformLike", ["x"], ["r"]),
             helper.make_node("NonZero", ["r"], ["z"]), helper.make_node("Cast", ["z"], ["f"], to=TensorProto.FLOAT),
             helper.make_node("MatMul", ["w", "f"], ["y"])]
    with pytest.raises(ExportError, match="shape"):
        count_multiplications(model(tmp_path / "n.onnx", nodes, ["N", 4], w=(3, 2)))
