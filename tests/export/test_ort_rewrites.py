"""Rewrites for ONNX Runtime: each is applied where its pattern is, leaves other graphs alone, and changes no answer."""
import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from paddlevideo_skel.export.ort_rewrites import rewrite_for_ort  # noqa: E402
from paddlevideo_skel.inference.artifact import relative_error  # noqa: E402

RNG = np.random.default_rng(3)
WEIGHT = RNG.normal(size=(6, 4, 1, 1)).astype("float32")
BIAS = RNG.normal(size=(6, 1, 1)).astype("float32")


def graph_of(nodes, constants, outputs=("y",), opset=13):
    """A model with the input ``x (n, 4, 5, 3)``; a node is (type, inputs, outputs[, attributes])."""
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    made = [helper.make_node(*node[:3], **(node[3] if len(node) > 3 else {})) for node in nodes]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", 4, 5, 3))
    answers = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in outputs]
    model = helper.make_model(helper.make_graph(made, "g", [x], answers, tensors),
                              opset_imports=[helper.make_opsetid("", opset)], ir_version=7)
    onnx.checker.check_model(model)
    return model


def answers(model, array):
    """What ONNX Runtime answers without rewrites of its own."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: array})


def kinds(model):
    return [node.op_type for node in model.graph.node]


def rewritten(model, shape=(2, 4, 5, 3)):
    """The rewritten copy and how often each rewrite was applied, after comparing answers."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    done = rewrite_for_ort(copy)
    onnx.checker.check_model(copy, full_check=True)
    array = RNG.normal(size=shape).astype("float32")
    for found, right in zip(answers(copy, array), answers(model, array), strict=True):
        assert relative_error(found, right) < 1e-6
    return copy, {name: count for name, count in done.items() if count}


def split_sizes(opset):
    """The sizes 1, 2, 3 as an opset takes them: inputs, constants and attributes of ``Split``."""
    return (["sizes"], {"sizes": np.array([1, 2, 3])}, {}) if opset >= 13 else ([], {}, {"split": [1, 2, 3]})


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("relu", [True, False])
def test_a_convolution_that_is_split_becomes_several(opset, relu):
    inputs, constants, sizes = split_sizes(opset)
    middle = [("Relu", ["b"], ["r"])] if relu else []
    model = graph_of([("Identity", ["x"], ["i"]), ("Conv", ["i", "w"], ["c"]), ("Add", ["c", "bias"], ["b"]), *middle,
                      ("Split", ["r" if relu else "b", *inputs], ["p", "q", "y"], {"axis": 1, **sizes}),
                      ("Tanh", ["p"], ["t"]), ("Sigmoid", ["q"], ["s"])],
                     {"w": WEIGHT, "bias": BIAS, **constants}, ("y", "t", "s"), opset)
    made, done = rewritten(model)
    assert done == {"without_identities": 1, "with_bias": 1, "split_apart": 1}
    assert kinds(made).count("Conv") == 3 and kinds(made).count("Relu") == 3 * relu and "Split" not in kinds(made)
    weights = [t for t in made.graph.initializer if list(t.dims)[1:] == [4, 1, 1]]
    assert sorted(t.dims[0] for t in weights) == [1, 2, 3]  # and the whole weight is not stored beside them


@pytest.mark.parametrize("change", ["another axis", "read elsewhere", "grouped", "the answer itself"])
def test_what_cannot_be_split_stays(change):
    nodes = [("Conv", ["x", "w"], ["c"], {"group": 2 if change == "grouped" else 1}),
             ("Split", ["c", "sizes"], ["p", "q"], {"axis": 2 if change == "another axis" else 1}),
             ("Tanh", ["p"], ["t"]), ("Sigmoid", ["q"], ["s"])]
    outputs = ["t", "s"]
    if change == "read elsewhere":
        nodes.append(("Exp", ["c"], ["e"]))
        outputs.append("e")
    if change == "the answer itself":
        outputs.append("c")
    sizes = np.array([2, 3] if change == "another axis" else [2, 4])
    weight = WEIGHT[:, :2] if change == "grouped" else WEIGHT
    made, done = rewritten(graph_of(nodes, {"w": weight, "sizes": sizes}, outputs))
    assert done == {} and "Split" in kinds(made)


@pytest.mark.parametrize("steps", [["Add"], ["Mul"], ["Mul", "Add"], ["Add", "Mul"], ["Mul", "Add", "Mul"]])
def test_scale_and_shift_after_pooling_become_a_convolution_of_each_channel(steps):
    nodes, constants, value = [("MaxPool", ["x"], ["v0"], {"kernel_shape": [3, 1], "pads": [1, 0, 1, 0]})], {}, "v0"
    for number, kind in enumerate(steps, 1):
        constants[f"k{number}"] = RNG.normal(size=(4, 1, 1)).astype("float32")
        nodes.append((kind, [f"k{number}", value] if number % 2 else [value, f"k{number}"], [f"v{number}"]))
        value = f"v{number}"
    made, done = rewritten(graph_of([*nodes, ("Relu", [value], ["y"])], constants))
    assert done == {"pooled_in_blocks": 1} and kinds(made) == ["MaxPool", "Conv", "Relu"]


@pytest.mark.parametrize("constant", [np.ones((4, 5, 3), "float32"), np.ones((5, 1), "float32"), np.float32(2)])
def test_another_constant_after_pooling_stays(constant):
    model = graph_of([("MaxPool", ["x"], ["p"], {"kernel_shape": [1, 1]}), ("Add", ["p", "k"], ["y"])], {"k": constant})
    made, done = rewritten(model)
    assert done == {} and kinds(made) == ["MaxPool", "Add"]


@pytest.mark.parametrize("bias", [np.ones((6, 5, 3), "float32"), np.ones((1, 1, 1), "float32")])
def test_what_is_no_bias_stays_an_addition(bias):
    made, done = rewritten(graph_of([("Conv", ["x", "w"], ["c"]), ("Add", ["c", "k"], ["y"])],
                                    {"w": WEIGHT, "k": bias}))
    assert done == {} and kinds(made) == ["Conv", "Add"]


def product(weight=WEIGHT[:, :, 0, 0], flat=(0, 4, 15), back=(0, -1, 5, 3), bias=None):
    """``x`` made flat, the product of a constant with it, maybe a sum, and ``back`` to four axes."""
    last = "p" if bias is None else "s"
    return graph_of([("Reshape", ["x", "flat"], ["f"]), ("MatMul", ["w", "f"], ["p"]),
                     *([] if bias is None else [("Add", ["p", "b"], ["s"])]), ("Reshape", [last, "back"], ["y"])],
                    {"w": weight, "flat": np.array(flat), "back": np.array(back),
                     **({} if bias is None else {"b": bias})})


@pytest.mark.parametrize("bias", [None, BIAS[:, :, 0], BIAS.reshape(1, 6, 1)])
def test_a_product_of_features_becomes_a_convolution(bias):
    made, done = rewritten(product(bias=bias))
    assert done == {"as_convolution": 1} and kinds(made) == ["Conv", "Reshape"]


@pytest.mark.parametrize("change", [
    {"flat": (0, 12, 5), "weight": RNG.normal(size=(6, 12)).astype("float32"), "back": (0, -1, 5, 1)},
    {"weight": RNG.normal(size=(1, 6, 4)).astype("float32")}, {"bias": np.ones((6, 15), "float32")}])
def test_another_product_stays(change):
    made, done = rewritten(product(**change))
    assert done == {} and "MatMul" in kinds(made)


def residual(shift=None, factors=("k", "x"), taken=("x", "p"), ends=()):
    """``relu(x - k·x + shift)``."""
    last = "d" if shift is None else "s"
    nodes = [("MatMul", list(factors), ["p"]), ("Sub", list(taken), ["d"]),
             *([] if shift is None else [("Add", ["d", "c"], ["s"])]), ("Relu", [last], ["y"]), *ends]
    return graph_of(nodes, {"k": RNG.normal(size=(5, 5)).astype("float32"),
                            **({} if shift is None else {"c": shift})}, ["y", *(end[2][0] for end in ends)])


@pytest.mark.parametrize("shift", [None, RNG.normal(size=(4, 1, 1)).astype("float32"),
                                   RNG.normal(size=(1, 4, 1, 1)).astype("float32")])
def test_what_a_product_is_taken_from_stays_in_blocks(shift):
    made, done = rewritten(residual(shift))
    assert done == {"residual_in_blocks": 1} and kinds(made) == ["MatMul", "Conv", "Add", "Relu"]


def test_a_shift_that_is_not_one_of_channels_is_added_after():
    made, done = rewritten(residual(RNG.normal(size=(5, 1)).astype("float32")))
    assert done == {"residual_in_blocks": 1} and kinds(made) == ["MatMul", "Conv", "Add", "Add", "Relu"]


@pytest.mark.parametrize("change", [{"taken": ("p", "x")}, {"ends": [("Neg", ["p"], ["z"])]}])
def test_another_difference_stays(change):
    made, done = rewritten(residual(**change))
    assert done == {} and "Sub" in kinds(made)


def test_equal_constants_are_stored_once():
    weights = {"w": WEIGHT, "v": WEIGHT.copy(), "u": WEIGHT + 1}
    made, done = rewritten(graph_of(
        [("Conv", ["x", "w"], ["a"]), ("Conv", ["x", "v"], ["b"]), ("Conv", ["x", "u"], ["c"]),
         ("Sum", ["a", "b", "c"], ["y"])], weights))
    assert done == {"stored_once": 1} and len(made.graph.initializer) == 2


def test_an_identity_that_makes_the_answer_stays():
    made, done = rewritten(graph_of([("Identity", ["x"], ["i"]), ("Tanh", ["i"], ["t"]), ("Identity", ["t"], ["y"])],
                                    {}))
    assert done == {"without_identities": 1} and kinds(made) == ["Tanh", "Identity"]
    assert [value.name for value in made.graph.output] == ["y"]


@pytest.mark.parametrize("name", ["ctrgcn", "stgcn_plusplus", "stgcn", "posec3d"])
def test_whole_networks_answer_as_before(exports, tmp_path, name):
    pytest.importorskip("paddle2onnx")
    from paddlevideo_skel.export.onnx_convert import run_paddle2onnx

    export = exports(name)
    run_paddle2onnx(export.graph, export.params, tmp_path / "m.onnx", 13)
    model = onnx.load(tmp_path / "m.onnx")
    made, done = rewritten(model, (3, *export.sample_shape))
    assert done["without_identities"] and "Split" not in kinds(made)
    assert len(made.graph.node) < len(model.graph.node)
