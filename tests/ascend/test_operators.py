"""What of an ONNX model ATC does not take: the list's figures, and every kind of problem."""
import hashlib
import importlib.resources
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from atc_stand_ins import write_onnx
from paths import ROOT

from paddlevideo_skel.ascend import operators
from paddlevideo_skel.ascend.operators import atc_problems, operator_table, supported_operators
from paddlevideo_skel.errors import ConfigError, ExportError, UnavailableError
from paddlevideo_skel.export.onnx_model import ModelInput, load_onnx, model_inputs

onnx = pytest.importorskip("onnx")
helper, FLOAT, DOUBLE, INT64 = onnx.helper, onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.INT64
# Of msit's own file: how many operators it has for each opset, and the digest of it all as sorted JSON.
COUNTS = {1: 4, 6: 1, 8: 157, 9: 166, 10: 171, 11: 217, 12: 215, 13: 216, 14: 219, 15: 221, 16: 221, 17: 185, 18: 191}
DIGEST = "0a371607fdd1e88b0736ed528824da30008d82df4c618495ac365d0495c9ca90"


def value(name, shape, kind=FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes, fed=(("x", (2, 3)),), out=("y", ("A", "B")), opset=13, weights=(), domains=(), kind=FLOAT):
    """A model of these nodes, saved nowhere."""
    graph = helper.make_graph(nodes, "g", [value(name, shape, kind) for name, shape in fed], [value(*out)], weights)
    sets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=sets, ir_version=8)


def node(kind, fed=("x",), out=("y",), **attributes):
    return helper.make_node(kind, list(fed), list(out), **attributes)


def test_the_list_is_the_published_one():
    assert {opset: len(names) for opset, names in operator_table().items()} == COUNTS
    text = json.dumps({str(opset): sorted(names) for opset, names in operator_table().items()}, sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest() == DIGEST
    source = json.loads(importlib.resources.files(operators.__package__).joinpath(operators.OPERATOR_LIST).read_text())
    assert "msit" in source["source"]


def test_an_operator_depends_on_the_opset():
    assert "HardSwish" in supported_operators(14) and "HardSwish" not in supported_operators(13)
    assert {"Conv", "MatMul", "Constant"} <= supported_operators(11)
    with pytest.raises(ConfigError, match=r"opset 7.*is not on ATC's list.*8, 9, 10"):
        supported_operators(7)


def test_a_wheel_has_the_list(tmp_path):
    subprocess.run([sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(tmp_path), "build_py", "-d",
                    str(tmp_path / "lib")], cwd=ROOT, check=True, capture_output=True)
    built = tmp_path / "lib" / "paddlevideo_skel" / "ascend"
    ours = Path(operators.__file__).with_name(operators.OPERATOR_LIST)
    assert (built / operators.OPERATOR_LIST).read_bytes() == ours.read_bytes()


def test_a_good_model_has_no_problems(tmp_path):
    write_onnx(tmp_path / "m.onnx", batch=4, name="onnx::Reshape_0")
    for given in (tmp_path / "m.onnx", str(tmp_path / "m.onnx"), load_onnx(tmp_path / "m.onnx")):
        assert atc_problems(given) == []
    assert model_inputs(load_onnx(tmp_path / "m.onnx")) == [ModelInput("onnx::Reshape_0", (4, 3, 4))]


def test_every_listed_operator_passes_and_another_does_not():
    for opset, names in operator_table().items():
        assert operators.operator_problems(model([node(name) for name in names], opset=opset)) == []
        problems = operators.operator_problems(model([node(name) for name in [*names, "Gelu"]], opset=opset))
        assert len(problems) == 1 and f"Gelu is not on ATC's list for opset {opset}" in problems[0]


@pytest.mark.parametrize("made, problem", [
    (lambda: model([node("HardSwish", name="act3")]), r"HardSwish is not on ATC's list for opset 13 \(node act3"),
    (lambda: model([node("Relu", out=["a"]), node("Trilu", ["a"], ["y"])]), "Trilu is not on ATC's list.*node y"),
    (lambda: model([node("FusedMatMul", domain="com.microsoft")], domains=["com.microsoft"]),
     "com.microsoft::FusedMatMul belongs to an operator set other than ONNX's"),
    (lambda: model([node("Relu")], domains=["com.microsoft"]), "declares operator sets.*com.microsoft"),
    (lambda: model([node("Relu")], opset=19), "opset 19 is not on ATC's list, which has 1, 6, 8, 9"),
    (lambda: model([node("If", ["x"], ["y"], then_branch=helper.make_graph([node("Scan", name="inner")], "t", [], []),
                         else_branch=helper.make_graph([], "e", [], []))]), "operator Scan is not.*node inner"),
    (lambda: model([node("Relu")], [("x", ("N", 3))]), r"not known to be static \(values x \(\?, 3\), y \(\?, 3\)\)"),
    (lambda: model([node("Relu")], [("x", (2, 0))]), r"not known to be static.*x \(2, 0\)"),
    (lambda: model([node("NonZero", out=["i"]), node("Cast", ["i"], ["y"], to=FLOAT)]), r"static.*i \(2, \?\)"),
    (lambda: model([node("Add", ["x", "w"])], weights=[helper.make_tensor("w", FLOAT, (7,), [0.0] * 7)]),
     "shapes contradict each other"),
    (lambda: model([node("Relu", ["nowhere"])]), "not valid.*nowhere"),
    (lambda: model([node("Cast", to=FLOAT)], kind=DOUBLE), "input x is double: ATC takes float, float16, uint8"),
    (lambda: model([node("Cast", to=FLOAT)], kind=INT64), "input x is int64"),
    (lambda: model([node("Cast", out=["d"], to=DOUBLE), node("Cast", ["d"], ["y"], to=FLOAT)]),
     r"does not support double \(value d\)"),
    (lambda: model([node("Cast", ["w"], ["c"], to=FLOAT), node("Add", ["x", "c"])],
                   weights=[helper.make_tensor("w", DOUBLE, (3,), [0.0] * 3)]), r"not support double \(value w\)"),
    (lambda: model([node("Relu", out=["a"], name="n"), node("Relu", ["a"], name="n")]), r"share a name \(name n\)"),
    *[(lambda name=name: model([node("Relu", [name])], [(name, (2, 3))]), "cannot be used in --input_shape")
      for name in ("a b", "a;b", "a,b", "a\tb", 'a"b', "a'b", "$a", "`a`", "a\\b")]])
def test_every_problem_is_found(made, problem):
    found = atc_problems(made())
    assert len(found) == 1 and re.search(problem, found[0]), found


def test_integers_inside_are_all_right():
    shape = helper.make_tensor("shape", INT64, (2,), [3, 2])
    assert atc_problems(model([node("Reshape", ["x", "shape"])], weights=[shape])) == []
    assert atc_problems(model([node("Constant", [], ["c"], value=shape), node("Reshape", ["x", "c"])])) == []


def test_an_open_batch_is_checked_at_a_size(tmp_path):
    write_onnx(tmp_path / "m.onnx")
    assert model_inputs(load_onnx(tmp_path / "m.onnx")) == [ModelInput("data_batch_0", (-1, 3, 4))]
    assert "not known to be static" in atc_problems(tmp_path / "m.onnx")[0]
    assert atc_problems(tmp_path / "m.onnx", batch=4) == []
    # Open sizes elsewhere stay open.
    assert "at batch 4" in atc_problems(model([node("Relu")], [("x", ("N", "T"))]), batch=4)[0]


def test_another_opset_may_be_asked_for():
    made = model([node("HardSwish")], opset=14)
    assert atc_problems(made) == [] and "HardSwish" in atc_problems(made, opset=13)[0]


def test_what_is_no_model(tmp_path, monkeypatch):
    with pytest.raises(ExportError, match=r"ONNX model not found.*export_onnx\.py"):
        atc_problems(tmp_path / "none.onnx")
    for content in (b"nonsense", b""):
        (tmp_path / "m.onnx").write_bytes(content)
        with pytest.raises(ExportError, match="is not an ONNX model"):
            atc_problems(tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UnavailableError, match="pip install"):
        atc_problems(tmp_path / "m.onnx")
