"""Eight bits: how far they may be from float32, what is recorded, and what is refused."""
import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from quantize_cases import CONFIG, CPU, PIPELINE, read_config
from tiny_export import CLASSES, logits, matrix, samples, write_export

from paddlevideo_skel import devices
from paddlevideo_skel.cli import run_command
from paddlevideo_skel.errors import ConfigError, DataError, ExportError, OutputError, SelfCheckError
from paddlevideo_skel.export import compact, qdq, qdq_rewrites, quantize
from paddlevideo_skel.export.onnx_graph import Graph, node_attributes
from paddlevideo_skel.inference.artifact import METADATA, ONNX, find_export, relative_error
from paddlevideo_skel.inference.runtime import open_runtime

RNG = np.random.default_rng(11)
@pytest.fixture
def export(tmp_path):
    return write_export(tmp_path / "export", pipeline=PIPELINE)


def test_eight_bits_are_as_near_as_their_steps(export, tmp_path):
    config = read_config(tmp_path)
    made = quantize.quantize(config, export, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "tiny_int8.metadata.json", "tiny_int8.onnx", "tiny_int8.selfcheck.npz"]
    # A product of rounded numbers: half a step of the input for each weight, half a step of each weight for the input.
    train, array = samples(20, 3), samples(1, 3)
    x_step, w_step = np.ptp(train) / 255, np.abs(matrix()).max(axis=0) / 127
    y_step = np.ptp(logits(train)) / 255
    x = np.clip(array, train.min(), train.max()).reshape(1, -1)
    bound = (x_step / 2 * np.abs(matrix()).sum(axis=0) + w_step / 2 * (np.abs(x).sum() + x_step / 2 * x.size)
             + 2 * y_step)
    with open_runtime(made, "onnxruntime", CPU) as runtime:
        found = runtime.run(array)
    assert (np.abs(found - logits(x)) < bound).all()
    assert relative_error(found, logits(x)) > 1e-4  # it was rounded at all
    operators = {node.op_type for node in onnx.load(made.file(ONNX)).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators


def test_the_metadata_says_what_rounding_cost(export, tmp_path):
    test = samples(50, 4)
    labels = logits(test).argmax(axis=1)
    labels[:10] = (labels[:10] + 1) % CLASSES  # float32 has 40 of 50
    config = read_config(tmp_path, labels=labels)
    made = quantize.quantize(config, export, tmp_path / "out", "mine", samples=5, method="percentile", max_drop=20)
    own = json.loads(made.file(METADATA).read_text())["quantization"]
    assert (own["precision"], own["method"], own["samples"], own["of"]) == ("int8", "percentile", 5, "tiny")
    assert own["calibration"]["file_path"].endswith("train.npy") and len(own["calibration"]["digest"]) == 16
    with open_runtime(made, "onnxruntime", CPU) as runtime:
        found = runtime.run(test).argmax(axis=1)
    report = own["test"]
    assert report["top1"] == {"fp32": 80.0, "int8": pytest.approx(100 * (found == labels).mean())}
    assert report["drop_points"] == pytest.approx(report["top1"]["fp32"] - report["top1"]["int8"])
    assert report["agreement"] == pytest.approx(100 * (found == logits(test).argmax(axis=1)).mean())
    assert 0 < made.metadata["selfcheck"]["tolerance"] <= 5e-2
    assert own["difference"] <= own["tolerance"]


@pytest.mark.parametrize("flags, bits", [("fpu avx2 fma", 7), ("fpu avx2 avx512_vnni", 8), ("fpu avx2 avx_vnni", 8)])
def test_the_cpu_decides_the_bits_of_the_weights(tmp_path, monkeypatch, flags, bits):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n\n")
    monkeypatch.setattr(devices, "CPUINFO", tmp_path / "cpuinfo")
    assert quantize.weight_bits_here() == bits


@pytest.mark.parametrize("bits, largest", [(7, 64), (8, 127)])
def test_weights_have_that_many_bits(export, tmp_path, bits, largest):
    model = qdq.Quantizer(export.file(ONNX), tmp_path, samples(5, 3)[:, None], "minmax", bits).quantize()
    weights = [numpy_helper.to_array(tensor).astype(int) for tensor in model.graph.initializer
               if tensor.data_type == TensorProto.INT8 and len(tensor.dims) > 1]
    assert max(np.abs(weight).max() for weight in weights) == largest


def test_the_bits_of_the_weights_may_be_given(export, tmp_path, capsys):
    config = read_config(tmp_path)
    made = quantize.quantize(config, export, tmp_path / "out", weight_bits=7)
    assert made.metadata["quantization"]["weight_bits"] == 7
    with pytest.raises(ConfigError, match="--weight_bits: found 6, expected 7 or 8"):
        quantize.quantize(config, export, tmp_path / "out", weight_bits=6)


@pytest.mark.parametrize("refused", [1, 10])
def test_a_candidate_that_is_refused_does_not_end_the_search(export, tmp_path, monkeypatch, refused):
    """Refused by ONNX Runtime's own answers: the self-check of the first candidates is another model's."""
    real, count = quantize.SelfCheck.save, []

    def save(selfcheck, path):
        count.append(path)
        if len(count) <= refused:
            selfcheck.logits = selfcheck.logits + 100
        real(selfcheck, path)

    monkeypatch.setattr(quantize.SelfCheck, "save", save)
    config = read_config(tmp_path)
    if refused == 10:
        with pytest.raises(ExportError, match=r"the quantized model failed its self-check: .*No files were kept"):
            quantize.quantize(config, export, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return
    tried = quantize.quantize(config, export, tmp_path / "out").metadata["quantization"]["tried"]
    assert len(tried) == 2 and "self-check" in tried[0]["refused"] and "top1" in tried[1]


def test_another_model_is_refused_by_the_selfcheck(export, tmp_path):
    config = read_config(tmp_path)
    made = quantize.quantize(config, export, tmp_path / "out")
    other = quantize.quantize(config, write_export(tmp_path / "other", seed=1, pipeline=PIPELINE), tmp_path / "out2",
                              max_drop=100)
    made.file(ONNX).write_bytes(other.file(ONNX).read_bytes())
    with pytest.raises(SelfCheckError, match="fails its self-check"):
        open_runtime(made, "onnxruntime", CPU)


def test_a_wide_tolerance_is_only_for_eight_bits(export, tmp_path):
    metadata = json.loads(export.file(METADATA).read_text())
    metadata["selfcheck"]["tolerance"] = 1e-2
    export.file(METADATA).write_text(json.dumps(metadata))
    with pytest.raises(ExportError, match="not valid metadata"):
        find_export(export.stem)


def with_an_outlier(array):
    """One coordinate that is much larger than all others; its weights are zero, so that only 8 bits suffer from it."""
    array = array.copy()
    array.reshape(len(array), -1)[:, 0] = 3000 * np.linspace(-1, 1, len(array))
    return array


def write_blind(folder):
    """An export that does not look at the first coordinate."""
    export = write_export(folder, pipeline=PIPELINE)
    model = onnx.load(export.file(ONNX))
    weight = matrix()
    weight[0] = 0
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(weight, "w"))
    onnx.save(model, export.file(ONNX))
    selfcheck = export.selfcheck()
    selfcheck.logits = (selfcheck.array.reshape(2, -1) @ weight).astype("float32")
    selfcheck.save(export.stem.with_name("tiny.selfcheck.npz"))
    return export, weight


def test_nothing_is_kept_when_top_1_drops(tmp_path):
    export, weight = write_blind(tmp_path / "blind")
    test = with_an_outlier(samples(50, 4))
    config = read_config(tmp_path, with_an_outlier(samples(20, 3)), test,
                         (test.reshape(50, -1) @ weight).argmax(axis=1))
    with pytest.raises(ExportError, match=r"top-1 drops from 100.00 to .* % of 50 .* more than --max_drop 1\."):
        quantize.quantize(config, export, tmp_path / "out", tolerance=100)
    with pytest.raises(ExportError, match="the logits still differ by"):
        quantize.quantize(config, export, tmp_path / "out", tolerance=1e-3)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("changes, error", [({"samples": 0}, "--samples"), ({"method": "max"}, "Did you mean|Known"),
                                            ({"max_drop": -1.0}, "--max_drop"), ({"tolerance": 0}, "--tolerance"),
                                            ({"name": "a/b"}, "plain file name")])
def test_wrong_arguments(export, tmp_path, changes, error):
    with pytest.raises(ConfigError, match=error):
        quantize.quantize(read_config(tmp_path), export, tmp_path / "out", **changes)


def test_exports_that_cannot_be_quantised(export, tmp_path):
    config = read_config(tmp_path)
    with pytest.raises(ExportError, match="exactly 4 samples per batch"):
        quantize.quantize(config, write_export(tmp_path / "b", batch=4, pipeline=PIPELINE), tmp_path / "out")
    made = quantize.quantize(config, export, tmp_path / "out")
    with pytest.raises(ExportError, match="already quantized"):
        quantize.quantize(config, made, tmp_path / "out", "again")
    (tmp_path / "out" / "taken.json").touch()
    with pytest.raises(OutputError, match="Paddle export"):
        quantize.quantize(config, export, tmp_path / "out", "taken")
    model = onnx.load(export.file(ONNX))
    model.opset_import[0].version = 11
    onnx.save(model, export.file(ONNX))
    with pytest.raises(ExportError, match="opset 11, 8 bits need 13"):
        quantize.quantize(config, export, tmp_path / "out", "old")
    export.file(ONNX).unlink()
    with pytest.raises(ExportError, match="no ONNX model yet"):
        quantize.quantize(config, export, tmp_path / "out", "none")


def test_data_that_does_not_fit(export, tmp_path):
    with pytest.raises(DataError, match="has no labels"):
        quantize.quantize(read_config(tmp_path, labels=None), export, tmp_path / "out")
    wide = np.ones((3, 3, 4, 7, 1), "float32")
    with pytest.raises(DataError, match=r"has shape \(3, 4, 7, 1\) after preprocessing, "
                                        r"but the model takes \(3, 4, 5, 1\)"):
        quantize.quantize(read_config(tmp_path, train=wide), export, tmp_path / "out")


def test_one_sample_may_be_lost_where_it_is_more_than_a_point():
    assert quantize.allowed_drop(1.0, 99) == pytest.approx(100 / 99)
    assert quantize.allowed_drop(1.0, 1000) == pytest.approx(1.0)
    assert quantize.allowed_drop(0.0, 99) == 0


def network():
    """x (n, 6, 8) → two pointwise products, the first written as MatMul with the weight on the left."""
    rng = np.random.default_rng(5)
    w, v = (rng.normal(0, 1, size).astype("float32") for size in ((4, 6), (6, 4)))
    nodes = [helper.make_node("MatMul", ["weight", "x"], ["a"]), helper.make_node("Relu", ["a"], ["b"]),
             helper.make_node("MatMul", ["other", "b"], ["c"]), helper.make_node("Add", ["c", "one"], ["d"]),
             helper.make_node("Add", ["d", "another one"], ["y"])]
    ones = np.ones(8, "float32")
    constants = [numpy_helper.from_array(array, name) for array, name in
                 ((w, "weight"), (v, "other"), (ones, "one"), (ones, "another one"))]
    graph = helper.make_graph(nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6, 8])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 6, 8])], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), w, v


def answer(model, array):
    return qdq.open_ort_session(model).run(None, {"x": array})[0]


def rewritten(model, name):
    """A model after one rewrite for 8 bits."""
    graph = Graph(model)
    getattr(qdq_rewrites, name)(graph)
    graph.write()
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    used = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= used
    return model


def operators(model):
    return [node.op_type for node in model.graph.node]


def test_products_become_convolutions():
    model, w, v = network()
    array = np.random.default_rng(0).normal(size=(3, 6, 8)).astype("float32")
    right = v @ np.maximum(w @ array, 0) + 2
    assert operators(rewritten(model, "convert_products")) == ["Conv", "Relu", "Conv", "Add", "Add"]
    assert relative_error(answer(model, array), right) < 1e-6


def test_compact_changes_no_number():
    model, *_ = network()
    array = np.random.default_rng(0).normal(size=(3, 6, 8)).astype("float32")
    right, before = answer(model, array), len(model.graph.initializer)
    compact.compact(model)
    onnx.checker.check_model(model)
    assert np.array_equal(answer(model, array), right)
    assert len(model.graph.initializer) == before - 1  # the two ones are one
    assert (model.graph.input[0].name, model.graph.output[0].name) == ("x", "y")


@pytest.mark.parametrize("array, room", [
    ((RNG.normal(size=(64, 3, 1, 10)) * np.eye(3)[:, :, None]).reshape(192, 30), 0.45),
    (np.where(np.arange(30)[:, None] % 10 == 9, RNG.normal(size=(30, 625)), 0), 0.15),
    (np.kron(np.eye(25), np.ones((1, 25))), 0.1), (RNG.normal(size=(64, 64)), None), (np.zeros((3, 4)), None)])
def test_rows_that_are_there_again(array, room):
    rows, index = compact.fewest_rows(array.astype("float32"))
    if room is None:
        assert rows is None and index is None
        return
    assert rows.nbytes + 4 * index.size < room * 4 * array.size
    assert np.array_equal(rows[index].reshape(array.shape), array.astype("float32"))


def test_a_file_holds_equal_rows_once():
    weight = np.zeros((8, 16, 16), "float32")
    weight[:, 3] = RNG.normal(size=(8, 16))
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "weight"], ["y"])], "net",
                              [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8, 2, 16])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8, 2, 16])],
                              [numpy_helper.from_array(weight, "weight")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    array = RNG.normal(size=(2, 8, 2, 16)).astype("float32")
    right, size = answer(model, array), model.ByteSize()
    compact.compact(model)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Gather", "Reshape", "MatMul"]
    assert model.ByteSize() < size / 4 and np.array_equal(answer(model, array), right)


def residual_network(also=None):
    """``x - k·conv(x) + shift``, as ``ort_rewrites`` leaves it for ONNX Runtime's blocks.

    ``also``: a value that is read once more.
    """
    from paddlevideo_skel.export.ort_rewrites import rewrite_for_ort

    arrays = {"w": RNG.normal(size=(4, 4, 1, 1)), "b": RNG.normal(size=4), "k": RNG.normal(size=(5, 5)),
              "shift": RNG.normal(size=(4, 1, 1))}
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["c"]), helper.make_node("Reshape", ["c", "size"], ["r"]),
             helper.make_node("MatMul", ["k", "r"], ["p"]), helper.make_node("Sub", ["x", "p"], ["d"]),
             helper.make_node("Add", ["d", "shift"], ["y"])]
    constants = [numpy_helper.from_array(array.astype("float32"), name) for name, array in arrays.items()]
    constants.append(numpy_helper.from_array(np.array([0, 4, 5, 3]), "size"))
    if also:
        nodes += [helper.make_node("Relu", [also], ["also"]), helper.make_node("Add", ["y", "also"], ["z"])]
    ends = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4, 5, 3])]
            for name in ("x", "z" if also else "y"))
    graph = helper.make_graph(nodes, "net", *ends, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    assert rewrite_for_ort(model)["residual_in_blocks"] == 1
    return model


def test_residuals_are_sums_in_eight_bits():
    model = residual_network()
    array = RNG.normal(size=(2, 4, 5, 3)).astype("float32")
    right = answer(model, array)
    assert operators(rewritten(model, "restore_residual_sums")) == ["Conv", "Reshape", "MatMul", "Add", "Add"]
    assert relative_error(answer(model, array), right) < 1e-6


@pytest.mark.parametrize("also", ["c", "r"])
def test_a_product_that_others_read_in_part_keeps_its_sign(also):
    model = residual_network(also)
    array = RNG.normal(size=(2, 4, 5, 3)).astype("float32")
    right = answer(model, array)
    assert relative_error(answer(rewritten(model, "restore_residual_sums"), array), right) < 1e-6


def topology_network(also=None, shift=(6, 25), blocks=True):
    """Relations of 5 joints, weighed for 2 graphs, turned and multiplied with features.

    ``also``: a value that is an output too. ``blocks``: each graph has relations of its own.
    """
    weight = RNG.normal(size=(3, 2, 2, 3)) * (np.eye(2)[:, :, None] if blocks else 1)
    arrays = {"sums": RNG.normal(size=(10, 25)), "shift": RNG.normal(size=shift), "w": weight.reshape(6, 6)}
    nodes = [helper.make_node("MatMul", ["x", "sums"], ["m"]), helper.make_node("Tanh", ["m"], ["t"]),
             helper.make_node("Add", ["t", "shift"], ["a"]), helper.make_node("MatMul", ["w", "a"], ["c"]),
             helper.make_node("Reshape", ["c", "size"], ["r"]),
             helper.make_node("Transpose", ["r"], ["q"], perm=[0, 1, 3, 2]),
             helper.make_node("Reshape", ["x", "size of x"], ["v"]), helper.make_node("MatMul", ["q", "v"], ["y"])]
    constants = [numpy_helper.from_array(array.astype("float32"), name) for name, array in arrays.items()]
    constants += [numpy_helper.from_array(np.array(size), name)
                  for name, size in (("size", [-1, 3, 10, 5]), ("size of x", [-1, 3, 10, 2]))]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
               for name, shape in (("y", ["n", 3, 5, 2]), (also, ["n", *[None] * (3 if also == "r" else 2)])) if name]
    if also:
        nodes.append(helper.make_node("Relu", [also], [f"{also} again"]))
        outputs[1].name = f"{also} again"
    graph = helper.make_graph(nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6, 10])],
                              outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.parametrize("shift", [(6, 25), (6, 1)])
def test_topologies_are_moved_by_rows_in_eight_bits(shift):
    model = topology_network(shift=shift)
    array = RNG.normal(size=(2, 6, 10)).astype("float32")
    right = answer(model, array)
    nodes = rewritten(model, "transpose_topologies_by_rows").graph.node
    found = {node.op_type: node_attributes(node) for node in nodes}
    assert found["Transpose"]["perm"] == [0, 2, 3, 1, 4] and found["Conv"]["group"] == 2
    assert relative_error(answer(model, array), right) < 1e-6


@pytest.mark.parametrize("also", ["t", "a", "c", "r", None])
def test_a_topology_that_others_read_or_without_blocks_stays(also):
    model = topology_network(also, blocks=also is not None)
    before = [node.SerializeToString() for node in model.graph.node]
    assert [node.SerializeToString() for node in rewritten(model, "transpose_topologies_by_rows").graph.node] == before


@pytest.mark.parametrize("shift", [(6, 25), (6, 1)])
def test_tanh_is_a_sigmoid_in_eight_bits(shift):
    model = topology_network(shift=shift)
    array = RNG.normal(size=(2, 6, 10)).astype("float32")
    right = answer(model, array)
    assert "Tanh" in operators(rewritten(model, "replace_tanh"))  # its sum is not read by a convolution yet
    for name in ("transpose_topologies_by_rows", "replace_tanh"):
        rewritten(model, name)
    assert operators(model)[:4] == ["MatMul", "Sigmoid", "Add", "Conv"]
    assert relative_error(answer(model, array), right) < 2e-6


@pytest.mark.parametrize("also", ["m", "t", "a"])
def test_a_tanh_that_others_read_stays(also):
    model = rewritten(topology_network(also), "convert_products")
    assert "Conv" in operators(model) and "Sigmoid" not in operators(rewritten(model, "replace_tanh"))


@pytest.mark.parametrize("told, expected", [
    ({"strides": [1, 4]}, "Conv"), ({}, "Conv"), ({"pads": [0] * 4, "ceil_mode": 0, "count_include_pad": 1}, "Conv"),
    ({"pads": [0, 1, 0, 1]}, "AveragePool"), ({"ceil_mode": 1, "strides": [1, 3]}, "AveragePool"),
    ({"auto_pad": "SAME_UPPER"}, "AveragePool")])
def test_means_are_convolutions_in_eight_bits(told, expected):
    node = helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[1, 4], **told)
    shapes = [("x", ["n", 3, 5, 8]), ("y", ["n", 3, 5, None])]
    graph = helper.make_graph([node], "net", *([helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
                                               for name, shape in shapes))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    array = RNG.normal(size=(2, 3, 5, 8)).astype("float32")
    right = answer(model, array)
    assert operators(rewritten(model, "convert_means")) == [expected]
    assert relative_error(answer(model, array), right) < 1e-6


def test_what_is_put_together_has_one_range(tmp_path):
    """``Concat`` need not compute then: all it reads is rounded in the same steps, but for constants."""
    weight = RNG.normal(size=(4, 4, 1, 1)).astype("float32")
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"]), helper.make_node("Conv", ["a", "w"], ["b"]),
             helper.make_node("Concat", ["a", "b", "k"], ["c"], axis=1), helper.make_node("Conv", ["c", "v"], ["y"])]
    constants = [numpy_helper.from_array(array, name) for name, array in
                 (("w", weight), ("v", np.tile(weight, (1, 3, 1, 1))), ("k", np.ones((1, 4, 5, 3), "float32")))]
    graph = helper.make_graph(nodes, "net", *([helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 5, 3])]
                                              for name in "xy"), constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "net.onnx")
    drawn = [RNG.normal(size=(1, 4, 5, 3)).astype("float32") for _ in range(3)]
    model = qdq.Quantizer(tmp_path / "net.onnx", tmp_path, drawn, "minmax").quantize()
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    steps = {node.input[0]: [values[name] for name in node.input[1:]] for node in model.graph.node
             if node.op_type == "QuantizeLinear"}
    assert steps["a"] == steps["b"] == steps["c"] != steps["x"]


def command(*arguments):
    return run_command("quantize", [str(word) for word in arguments])


def overrides_of(config):
    return [word for split in ("train", "test") for key, value in config["DATASET"][split].items()
            for word in ("--override", f"DATASET.{split}.{key}={value}")]


def test_the_command_fails_in_one_line(tmp_path, capsys):
    assert command("-c", CONFIG) == 2
    assert command("-c", CONFIG, "--model_dir", tmp_path) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "contains no export" in lines[1]
    assert lines[0].startswith("error: --model_dir: is missing")


BLOCKED = """
import sys
sys.modules["paddle"] = None
from paddlevideo_skel.cli import run_command
sys.exit(run_command("quantize", sys.argv[1:]))
"""


def test_without_paddle(tmp_path):
    export = write_export(tmp_path / "export", pipeline=PIPELINE)
    config = read_config(tmp_path)
    config["DATASET"]["train"]["split"] = config["DATASET"]["test"]["split"] = None
    text = CONFIG.read_text()
    for split in ("train", "val"):
        text = text.replace(f'    split: "xsub_{split}"\n', "")
    (tmp_path / "config.yaml").write_text(text)
    words = [word for word in overrides_of(config) if not word.endswith("split=None")]
    words = [word for i, word in enumerate(words) if word != "--override" or words[i + 1:i + 2] != ["--override"]]
    words = words[:-1] if words[-1] == "--override" else words
    done = subprocess.run([sys.executable, "-c", BLOCKED, "-c", tmp_path / "config.yaml", "--model_file",
                           export.file(ONNX), "-o", tmp_path / "out", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "tiny_int8.onnx").is_file()
    assert "top-1" in done.stdout


@pytest.mark.parametrize("name", ["ctrgcn", *(pytest.param(other, marks=pytest.mark.slow) for other in
                                              ("stgcn_plusplus", "stgcn", "posec3d"))])
def test_every_family_in_eight_bits(exports, tmp_path, name):
    pytest.importorskip("paddle2onnx")
    made = exports(name)
    rng = np.random.default_rng(0)
    drawn = [rng.normal(0, 0.5, (1, *made.sample_shape)).astype("float32") for _ in range(4)]
    quantizer = qdq.Quantizer(made.file(ONNX), tmp_path, drawn, "minmax")
    # Rewritten for 8 bits it is the same function still.
    assert relative_error(quantizer.logits, qdq.logits_of(str(made.file(ONNX)), drawn)) < 1e-5
    assert not {"Tanh", "AveragePool"} & set(operators(quantizer.model))
    model, error = quantizer.quantize_and_correct()
    assert 0 < error < 0.2
    # The mean error over the samples was added to the logits.
    assert np.abs((quantizer.logits - qdq.logits_of(model, drawn)).mean(axis=0)).max() < 1e-2 * np.abs(
        quantizer.logits).max()
    size = made.file(ONNX).stat().st_size
    compact.compact(model)
    onnx.save(model, tmp_path / "small.onnx")
    assert (tmp_path / "small.onnx").stat().st_size < 0.7 * size
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("QuantizeLinear") > kinds.count("Conv") > 0
