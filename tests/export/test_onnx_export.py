"""ONNX models for a device: every shape static, rows apart, compared before and after simplification, or not there."""
import importlib.util
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from deploy_cases import dynamic, filled, small_config, write_npy
from paths import ROOT
from tiny_export import CLASSES, logits, samples, write_export

from paddlevideo_skel.cli import run_command
from paddlevideo_skel.errors import ConfigError, DataError, ExportError, OutputError, UnavailableError
from paddlevideo_skel.export import onnx_export
from paddlevideo_skel.export.exporter import export_model
from paddlevideo_skel.export.onnx_export import Route, export_onnx, list_routes, parse_batches
from paddlevideo_skel.inference.artifact import ExportFolder, find_export, relative_error
from paddlevideo_skel.inference.predict import Predictor, predict
from paddlevideo_skel.inference.runtime import open_runtime

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
pytest.importorskip("paddle2onnx")
pytest.importorskip("onnxslim")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from paddlevideo_skel.ascend.operators import atc_problems  # noqa: E402
from paddlevideo_skel.export.onnx_graph import fix_batch, lower_opset, pad_with_zeros, simplify  # noqa: E402
from paddlevideo_skel.export.onnx_model import shape_problems  # noqa: E402

# The batch of a model that takes no other

@pytest.mark.parametrize("count", [1, 3, 4])
def test_a_short_batch_is_padded_and_the_padding_dropped(tmp_path, count):
    runtime, sizes = open_runtime(write_export(tmp_path, batch=4), "onnxruntime"), []
    compute = runtime.compute
    runtime.compute = lambda array: sizes.append(len(array)) or compute(array)
    array = samples(count)
    answer = runtime.run(array)
    assert answer.shape == (count, CLASSES) and relative_error(answer, logits(array)) < 1e-6
    assert sizes == [4] and set(runtime.errors) == {4}


def test_more_than_its_batch_is_refused(tmp_path):
    runtime = open_runtime(write_export(tmp_path, batch=4), "onnxruntime")
    with pytest.raises(DataError, match="takes at most 4 samples per batch, got 5"):
        runtime.run(samples(5))


def test_predict_gives_such_a_model_what_it_takes(tmp_path):
    export = write_export(tmp_path / "export", batch=2, class_names=[f"c{i}" for i in range(CLASSES)],
                          pipeline={"sample": [{"Iden": None}]})
    (tmp_path / "in").mkdir()
    arrays = samples(5)
    for number, array in enumerate(arrays):
        np.save(tmp_path / "in" / f"{number}.npy", array)
    predictor = Predictor(open_runtime(export, "onnxruntime"))
    for batch_size in (None, 1, 2):
        found = [entry["top_k"][0]["class"] for entry in predict(predictor, tmp_path / "in", batch_size)["samples"]]
        assert found == logits(arrays).argmax(axis=1).tolist()
    with pytest.raises(ConfigError, match="expected 1 to 2, the batch size of the model, got 3"):
        predict(predictor, tmp_path / "in", 3)


@pytest.mark.parametrize("shape", [[0, 3, 4, 5, 1], [-2, 3, 4, 5, 1], [True, 3, 4, 5, 1], ["4", 3, 4, 5, 1], [4], []])
def test_a_metadata_with_no_such_batch_is_refused(tmp_path, shape):
    path = write_export(tmp_path).file(".metadata.json")
    metadata = json.loads(path.read_text())
    metadata["input"]["shape"] = shape
    path.write_text(json.dumps(metadata))
    with pytest.raises(ExportError, match="not valid metadata"):
        find_export(path)


# Graphs

def graph_of(nodes, constants, outputs=(("y", None),)):
    """A model of opset 13 with the input ``x (n, 6)`` float32; outputs are name and shape."""
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    made = [helper.make_node(*node[:3], **(node[3] if len(node) > 3 else {})) for node in nodes]
    given, *found = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                     for name, shape in (("x", ("n", 6)), *outputs)]
    graph = helper.make_graph(made, "g", [given], found, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


def answers(model, array):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": array})


def kinds(model):
    return [node.op_type for node in model.graph.node]


def flattening():
    """``y = reshape(x, (n, 2, 3))`` of a shape that is computed, plus as many ones, and ``x`` after zeros."""
    return graph_of([
        ("Shape", ["x"], ["size"]), ("Gather", ["size", "zero"], ["n"], {"axis": 0}),
        ("Concat", ["n", "rest"], ["target"], {"axis": 0}), ("Reshape", ["x", "target"], ["z"]),
        ("Shape", ["z"], ["whole"]), ("Expand", ["one", "whole"], ["ones"]), ("Add", ["z", "ones"], ["y"])],
        {"zero": np.array([0]), "rest": np.array([2, 3]), "one": np.float32([1])})


@pytest.mark.parametrize("batch", [1, 4])
def test_what_depends_on_shapes_alone_becomes_constants(batch):
    model = flattening()
    before = model.SerializeToString()
    fixed = fix_batch(model, batch)
    onnx.checker.check_model(fixed, full_check=True)
    assert not {"Shape", "Gather", "Concat"} & set(kinds(fixed)) and "Reshape" in kinds(fixed)
    array = np.arange(6 * batch, dtype="float32").reshape(batch, 6)
    np.testing.assert_array_equal(answers(fixed, array)[0], array.reshape(batch, 2, 3) + 1)
    assert [d.dim_value for d in fixed.graph.input[0].type.tensor_type.shape.dim] == [batch, 6]
    assert [d.dim_value for d in fixed.graph.output[0].type.tensor_type.shape.dim] == [batch, 2, 3]
    assert not shape_problems(fixed) and model.SerializeToString() == before


def test_what_is_large_is_not_stored():
    model = flattening()
    fixed = fix_batch(model, 5000)
    assert "Expand" in kinds(fixed) and len(fixed.SerializeToString()) < 2000
    assert len(simplify(fixed).SerializeToString()) < 20_000
    array = np.ones((5000, 6), "float32")
    np.testing.assert_array_equal(answers(simplify(fixed), array)[0], answers(model, array)[0])


def test_a_shape_that_depends_on_numbers_is_named():
    model = graph_of([("NonZero", ["x"], ["found"]), ("Cast", ["found"], ["y"], {"to": TensorProto.FLOAT})], {})
    with pytest.raises(ExportError, match=r"not known to be static at batch 3.*found"):
        fix_batch(model, 3)


def test_shapes_that_contradict_each_other_are_told():
    model = graph_of([("MatMul", ["x", "w"], ["y"])], {"w": np.zeros((5, 2), "float32")})
    with pytest.raises(ExportError, match="contradict each other at batch 2"):
        fix_batch(model, 2)


@pytest.mark.parametrize("zero, axis, order, pads", [
    (0, 1, ("x", "same"), [(0, 0), (0, 6)]), (0, -1, ("same", "x"), [(0, 0), (6, 0)]), (2, 1, ("x", "same"), None)])
def test_zeros_of_a_computed_shape_become_padding(zero, axis, order, pads):
    model = graph_of([("Shape", ["x"], ["size"]), ("Expand", ["zero", "size"], ["zeros"]),
                      ("Identity", ["zeros"], ["same"]), ("Concat", order, ["y"], {"axis": axis})],
                     {"zero": np.float32([zero])}, outputs=(("y", ("n", 12)),))
    array = np.arange(1, 19, dtype="float32").reshape(3, 6)
    before = answers(model, array)[0]
    pad_with_zeros(model)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_array_equal(answers(model, array)[0], before)
    if pads is None:
        assert "Pad" not in kinds(model)
    else:
        assert kinds(model) == ["Pad"] and (before == np.pad(array, pads)).all()


def axes_graph():
    return graph_of([
        ("Unsqueeze", ["x", "first"], ["a"]), ("ReduceSum", ["a", "last"], ["b"], {"keepdims": 1}),
        ("Squeeze", ["b", "first"], ["c"]), ("Split", ["x", "parts"], ["d", "e"], {"axis": 1}),
        ("Mul", ["c", "e"], ["y"])],
        {"first": np.array([1]), "last": np.array([2]), "parts": np.array([2, 4])},
        outputs=(("y", ("n", 4)), ("d", ("n", 2))))


@pytest.mark.parametrize("opset", [11, 12])
def test_operators_of_opset_13_in_the_form_of_11(opset):
    model = axes_graph()
    array = np.random.default_rng(0).normal(0, 1, (3, 6)).astype("float32")
    lower_opset(model, opset)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == opset and model.ir_version <= 7
    found = answers(model, array)
    np.testing.assert_allclose(found[0], array.sum(axis=1, keepdims=True) * array[:, 2:], rtol=1e-5)
    np.testing.assert_array_equal(found[1], array[:, :2])


def test_axes_that_are_computed_have_no_such_form():
    model = graph_of([("Cast", ["axis"], ["axes"], {"to": TensorProto.INT64}), ("ReduceSum", ["x", "axes"], ["y"])],
                     {"axis": np.array([1], "int32")})
    with pytest.raises(ExportError, match="axes of ReduceSum"):
        lower_opset(model, 11)


def test_a_simplifier_that_fails_or_renames_is_told(monkeypatch):
    import onnxslim

    def renamed(model, **_):
        model.graph.output[0].name = "z"
        return model

    def failing(model, **_):
        raise KeyError("axis")

    for slim, problem in ((renamed, "renamed"), (failing, "KeyError.*axis")):
        monkeypatch.setattr(onnxslim, "slim", slim)
        with pytest.raises(ExportError, match=problem):
            simplify(flattening())


# Exports

@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """An export of the model in which slices, zeros and shapes are computed, with what paddle2onnx makes of it."""
    config = small_config("posec3d")
    export = export_model(config, filled(config), tmp_path_factory.mktemp("source"), "m", "minimal")
    made = {}

    def run(graph, params, path, opset):
        if opset not in made:
            onnx_export_run(graph, params, path, opset)
            made[opset] = path.read_bytes()
        path.write_bytes(made[opset])

    onnx_export_run = onnx_export.run_paddle2onnx
    export.run = run
    return export


@pytest.fixture
def run(source, monkeypatch):
    """paddle2onnx, which converts the export once at an opset and remembers it."""
    monkeypatch.setattr(onnx_export, "run_paddle2onnx", source.run)
    return source.run


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def files(stem):
    return sorted(f"{stem}.{ending}" for ending in ("onnx", "metadata.json", "selfcheck.npz"))


@pytest.mark.parametrize("simplified", [True, False])
def test_each_batch_is_an_export_of_its_own(source, run, tmp_path, simplified):
    made = export_onnx(source, tmp_path / "new" / "out", [1, 3, None], simplified=simplified)
    assert names(tmp_path / "new" / "out") == sorted(files("m") + files("m_bs1") + files("m_bs3"))
    (tmp_path / "new" / "out").rename(tmp_path / "moved")
    assert [model.batch for model in made] == [1, 3, None]
    array = np.random.default_rng(5).normal(0, 0.4, (3, *source.sample_shape)).astype("float32")
    right = dynamic(filled(small_config("posec3d")), array)
    for model in made:
        export = find_export(tmp_path / "moved" / f"{model.stem.name}.onnx")
        runtime = open_runtime(export, "onnxruntime")
        for count in {1, export.batch or 3}:
            assert relative_error(runtime.run(array[:count]), right[:count]) < 1e-5
        graph = onnx.load(export.file(".onnx"))
        assert graph.ir_version == 6 and graph.opset_import[0].version == 11
        assert [value.name for value in graph.graph.input] == [export.metadata["input"]["name"]] == ["data_batch_0"]
        assert [value.name for value in graph.graph.output] == [export.metadata["output"]["name"]] == ["fetch_name_0"]
        assert atc_problems(graph, batch=2 if export.batch is None else None) == []
        assert not {"Shape", "Expand"} & set(kinds(graph))
        # Padding with zeros is no part of the file.
        assert export.file(".onnx").stat().st_size < 1.4 * source.file(".pdiparams").stat().st_size
        entry = export.metadata["onnx"]
        assert entry["opset"] == 11 and max(entry["relative_error"].values()) < 1e-5
        assert (entry["nodes"] < 0.7 * entry["nodes_converted"]) == simplified == bool(entry["onnxslim"])


def changed(run, change):
    """A paddle2onnx whose model is changed afterwards."""
    def convert(graph, params, path, opset):
        run(graph, params, path, opset)
        model = onnx.load(path)
        change(model)
        onnx.save(model, path)
    return convert


def scale_a_weight(model):
    """That of the last layer."""
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 2 and 51 in tensor.dims)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.1), weight.name))


def reverse_the_rows(model):
    """Give the answers in the opposite order."""
    name, last = model.graph.output[0].name, next(n for n in model.graph.node if "fetch_name_0" in n.output)
    last.output[list(last.output).index(name)] = "forwards"
    for key, value in (("from", -1), ("to", -2 ** 31), ("axis0", 0), ("back", -1)):
        model.graph.initializer.append(numpy_helper.from_array(np.array([value]), key))
    model.graph.node.append(helper.make_node("Slice", ["forwards", "from", "to", "axis0", "back"], [name]))


@pytest.mark.parametrize("change, batch, problem", [
    (scale_a_weight, None, r"fails its self-check at batch size 1.*before simplification"),
    (reverse_the_rows, None, "different results for 3 samples in one batch than one by one.*before simplification"),
    (reverse_the_rows, 4, "different results for 4 samples in one batch than one by one")])
def test_a_wrong_conversion_is_refused_and_nothing_is_left(source, run, tmp_path, monkeypatch, change, batch, problem):
    monkeypatch.setattr(onnx_export, "run_paddle2onnx", changed(run, change))
    monkeypatch.setattr(onnx_export, "list_routes", lambda opset: [Route(11, 11), Route(13, 13)])
    with pytest.raises(ExportError, match=f"nothing was written. opset 11: .*{problem}.*; opset 13: .*{problem}"):
        export_onnx(source, tmp_path / "out", [batch])
    assert names(tmp_path) == []


def test_a_wrong_simplification_is_refused_and_nothing_is_left(source, run, tmp_path, monkeypatch):
    import onnxslim

    slim = onnxslim.slim

    def wrong(model, **given):
        model = slim(model, **given)
        scale_a_weight(model)
        return model

    monkeypatch.setattr(onnxslim, "slim", wrong)
    (tmp_path / "m.onnx").write_text("an older model")
    with pytest.raises(ExportError, match=r"batch size 2.*after simplification"):
        export_onnx(source, tmp_path, [2], opset=11)
    assert names(tmp_path) == ["m.onnx"]
    assert export_onnx(source, tmp_path, [2], opset=11, simplified=False)


def failing_at(run, *opsets):
    def convert(graph, params, path, opset):
        if opset in opsets:
            raise ExportError(graph, f"paddle2onnx was killed by signal 6 at opset {opset}")
        run(graph, params, path, opset)
    return convert


@pytest.mark.parametrize("lowered, opset, made", [(True, None, 11), (True, 12, 12), (False, None, 13)])
def test_other_opsets_are_tried_in_order(source, run, tmp_path, monkeypatch, caplog, lowered, opset, made):
    converted = 13
    monkeypatch.setattr(onnx_export, "run_paddle2onnx", failing_at(run, 11, 12))
    if not lowered:
        monkeypatch.setattr("paddlevideo_skel.export.onnx_graph.ATTRIBUTES_OF_OPSET_11", {"Squeeze": "nothing"})
    [model] = export_onnx(source, tmp_path, [2], opset)
    assert model.metadata["onnx"]["opset"] == made == onnx.load(model.file(".onnx")).opset_import[0].version
    assert model.metadata["onnx"]["converted_at_opset"] == converted
    assert f"Not converted, opset {opset or 11}: paddle2onnx was killed by signal 6" in caplog.text
    assert names(tmp_path) == files("m_bs2")


def test_an_opset_that_was_asked_for_is_not_replaced(source, run, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "run_paddle2onnx", failing_at(run, 13))
    with pytest.raises(ExportError, match=r"opset 13: paddle2onnx was killed.*Try without --opset"):
        export_onnx(source, tmp_path, [2], opset=13)
    assert names(tmp_path) == []


def test_the_order():
    tried = [(way.opset, way.converted_at) for way in list_routes()]
    assert tried == [(11, 11), (11, 13), (12, 12), (12, 13), (13, 13), (14, 14), (15, 15), (16, 16), (17, 17)]


def copied(source, folder, name, **changes):
    """The export under another name, with other entries in its metadata."""
    folder.mkdir()
    for path in source.stem.parent.iterdir():
        shutil.copy(path, folder / path.name.replace("m.", f"{name}.", 1))
    path = folder / f"{name}.metadata.json"
    metadata = json.loads(path.read_text())
    metadata["selfcheck"]["file"] = f"{name}.selfcheck.npz"
    path.write_text(json.dumps({**metadata, **changes}))
    return find_export(folder)


def test_an_export_of_the_other_kind_is_tried_too(source, run, tmp_path, monkeypatch, caplog):
    other = copied(source, tmp_path / "other", "o", kind="other")

    def convert(graph, params, path, opset):
        if graph == source.graph:
            raise ExportError(graph, "no such operator")
        run(graph, params, path, opset)

    monkeypatch.setattr(onnx_export, "run_paddle2onnx", convert)
    [model] = export_onnx(source, tmp_path / "out", [2], opset=13, instead=[other])
    assert names(tmp_path / "out") == files("m_bs2") and model.metadata["kind"] == "other"
    assert f"opset 13 of {source.stem}: no such operator" in caplog.text
    with np.load(other.file(".selfcheck.npz")) as stored:
        np.savez(other.file(".selfcheck.npz"), **{**stored, "logits": stored["logits"] * np.float32(1.01)})
    with pytest.raises(ExportError, match="a different model or different weights"):
        export_onnx(source, tmp_path / "out2", [2], instead=[other])
    assert not (tmp_path / "out2").exists()


def test_what_cannot_be(source, tmp_path, monkeypatch):
    for opset in (10, 18, 99):
        with pytest.raises(ConfigError, match=f"--opset: found {opset}, expected 11 to 17"):
            export_onnx(source, tmp_path / "out", opset=opset)
    for batch in (0, -1, True, 1.5):
        with pytest.raises(ConfigError, match="--batch: found"):
            export_onnx(source, tmp_path / "out", [batch])
    for text in ("0", "", "1,", "1,-4", "x", "1.5", "²"):
        with pytest.raises(ConfigError, match="--batch: found"):
            parse_batches(text)
    assert parse_batches("4, 1,dynamic,4") == [4, 1, None]
    with pytest.raises(ExportError, match=r"no Paddle graph.*Export the model again"):
        export_onnx(write_export(tmp_path / "tiny"), tmp_path / "out", [1])
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        export_onnx(source, tmp_path / "file", [1])
    other = copied(source, tmp_path / "taken", "m")
    with pytest.raises(OutputError, match="is a Paddle export, whose metadata"):
        export_onnx(source, tmp_path / "taken")
    bare = copied(source, tmp_path / "bare", "m")
    bare.params.unlink()
    with pytest.raises(ExportError, match="weights are missing"):
        export_onnx(bare, tmp_path / "out")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxslim" else find(name))
    with pytest.raises(UnavailableError, match=r"onnxslim is not installed.*--no_simplify"):
        export_onnx(other, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_beside_its_own_graph(source, run, tmp_path):
    export = copied(source, tmp_path / "e", "m")
    export_onnx(export, tmp_path / "e", [None], simplified=False)
    again = ExportFolder(export.stem)
    assert again.has_graph() and again.metadata["pipeline"] == source.metadata["pipeline"]
    assert open_runtime(again, "onnxruntime").errors[1] < 1e-5


def test_the_command_needs_no_paddle(source, tmp_path):
    code = ("import sys\nsys.modules['paddle'] = None\nfrom paddlevideo_skel.cli import run_command\n"
            f"sys.exit(run_command('export-onnx', [{str(source.stem)!r}, '-o', {str(tmp_path / 'out')!r}, "
            "'--batch', '2', '--opset', '12']))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert names(tmp_path / "out") == files("m_bs2")
    assert "m_bs2.onnx: opset 12, batch 2, " in done.stdout and "agrees with the dynamic graph" in done.stdout


def test_the_commands_errors_are_one_line(source, tmp_path):
    for given in (["nothing", "-o", "out"], [source.stem, "-o", "out", "--batch", "0"],
                  [source.stem, "-o", "out", "--opset", "9"]):
        done = subprocess.run([sys.executable, ROOT / "tools/export_onnx.py", *given], cwd=tmp_path,
                              capture_output=True, text=True, timeout=600)
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")
    assert names(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ordinary", "minimal"])
@pytest.mark.parametrize("name", ["stgcn", "stgcn_plusplus", "ctrgcn", "posec3d"])
def test_every_model_at_both_opsets(tmp_path, name, kind):
    config = small_config(name)
    export = export_model(config, filled(config), tmp_path / "export", "m", kind)
    array = np.random.default_rng(5).normal(0, 0.4, (2, *export.sample_shape)).astype("float32")
    right = dynamic(filled(config), array)
    for opset in (11, 13):
        for model in export_onnx(export, tmp_path / str(opset), [2, None], opset):
            assert relative_error(open_runtime(model, "onnxruntime").run(array), right) < 1e-5
            assert atc_problems(model.file(".onnx"), batch=None if model.batch else 2) == []
            assert model.metadata["onnx"]["converted_at_opset"] == opset


@pytest.mark.slow
def test_a_sum_that_paddle2onnx_aborts_on(tmp_path):
    """The real thing, at the cost of a new layer: its ``sum`` has no form at opset 11 that paddle2onnx writes."""
    import paddle

    config = small_config("ctrgcn")
    model = filled(config)

    class Summed(type(model.head)):
        def forward(self, x):
            return super().forward(x) + 0.001 * paddle.sum(x, axis=list(range(1, x.ndim))).reshape([-1, 1])

    model.head.__class__ = Summed
    export = export_model(config, model, tmp_path / "export", "m", "ordinary")
    [made] = export_onnx(export, tmp_path, [2])
    assert made.metadata["onnx"]["opset"] == 11 and made.metadata["onnx"]["converted_at_opset"] == 13
    assert "ReduceSum" in kinds(onnx.load(made.file(".onnx"))) and atc_problems(made.file(".onnx")) == []


def test_predict_with_a_fixed_batch(source, run, tmp_path, capsys):
    [model] = export_onnx(source, tmp_path / "out", [2], simplified=False)
    path = write_npy(tmp_path / "a.npy", joints=17, channels=2)
    assert run_command("predict", ["--model_file", f"{model.stem}.onnx", "-i", str(path), "-b", "3"]) == 2
    assert "expected 1 to 2, the batch size of the model, got 3" in capsys.readouterr().err
