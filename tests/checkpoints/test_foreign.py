"""Conversion: every source's form gives the golden logits, every tensor has its place, and every wrapper is seen.

PyTorch is not needed: its files are written by ``torch_writer``, its names made by mappings of this file. What PyTorch
itself answers is compared in ``torch_job``.
"""
import json
import logging
import pickle
import re
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import paddle
import pytest
import safetensors.numpy
import yaml
from golden_fill import MODELS, fill, golden, network_input
from paths import ROOT
from small_models import arrays, same, small
from torch_writer import save

from paddlevideo_skel.build import build_recognizer
from paddlevideo_skel.checkpoints.convert import convert_checkpoint
from paddlevideo_skel.checkpoints.fit import fit_weights
from paddlevideo_skel.checkpoints.foreign import convert_state
from paddlevideo_skel.checkpoints.load import WEIGHTS_FORMATS, load_weights
from paddlevideo_skel.cli import main
from paddlevideo_skel.config import load_config
from paddlevideo_skel.errors import CheckpointError, ConfigError
from paddlevideo_skel.models import build_model, ctrgcn, stgcn_plusplus
from paddlevideo_skel.skeleton import adjacency, get_layout

SPECS = {**MODELS, "posec3d_hmdb51": {
    "framework": "Recognizer3D", "backbone": {"name": "ResNet3dSlowOnly", "stage_blocks": [3, 4, 6]},
    "head": {"name": "I3DHead", "num_classes": 51, "in_channels": 512}}}
NORMS = {"_mean": "running_mean", "_variance": "running_var"}


def theirs(weights, rules):
    """PaddleVideo's names by ``rules`` (pattern → replacement), BatchNorms as PyTorch has them, linear layers too."""
    state = OrderedDict()
    for name, value in weights.items():
        for pattern, replacement in rules.items():
            name = re.sub(pattern, replacement, name)
        stem, _, last = name.rpartition(".")
        if last in NORMS:
            name = f"{stem}.{NORMS[last]}"
        if last == "_variance":
            state[f"{stem}.num_batches_tracked"] = np.array(7)
        linear = last == "weight" and value.ndim == 2
        state[name] = np.ascontiguousarray(value.T) if linear else value
    return state


ST_GCN = {"^backbone\\.": "", "^head\\.": ""}
OLD_MMACTION = {"^head\\.fcn": "cls_head.fc"}
PYSKL = {"^head\\.": "cls_head."}
MMACTION = {"^head\\.fc_cls": "cls_head.fc"}
POSEC3D = {"^head\\.fc\\.": "cls_head.fc_cls.", "\\._conv\\.": ".conv.", "\\._batch_norm\\.": ".bn."}
GOLDEN = {
    "st-gcn": ("stgcn_kinetics", ST_GCN, "zip", dict, "openpose"),
    "st-gcn, legacy form": ("stgcn_ntu", ST_GCN, "legacy", dict, "ntu-rgb+d"),
    "mmaction2 0.x": ("stgcn_ntu", OLD_MMACTION, "legacy", lambda s: {"meta": {}, "state_dict": s}, "ntu-rgb+d"),
    "pyskl st-gcn++": ("stgcn_plusplus_coco", PYSKL, "legacy", lambda s: {"state_dict": s}, "coco"),
    "mmaction2 st-gcn++": ("stgcn_plusplus_coco", MMACTION, "zip", lambda s: {"state_dict": s}, "coco"),
    "ctr-gcn": ("ctrgcn", ST_GCN, "zip", dict, "ntu-rgb+d"),
    "ctr-gcn, nine units, module": (
        "ctrgcn_lite", ST_GCN, "legacy", lambda s: {"net": {f"module.{k}": v for k, v in s.items()}}, "ntu-rgb+d"),
    "posec3d": ("posec3d_hmdb51", POSEC3D, "zip", lambda s: {"state_dict": s, "meta": {}}, None),
}


def golden_weights(name):
    figures = golden(name)
    # Filled like the golden model: what is not in its list (ST-GCN++'s adjacency, a fixed graph) keeps its value.
    return arrays(fill(build_model(SPECS[name]), figures["state_dict"], figures["seed"]))


# Two sources more of a model that another one gives: the same logits once more.
AGAIN = ("st-gcn, legacy form", "mmaction2 st-gcn++")


@pytest.mark.parametrize("source", [
    pytest.param(source, marks=pytest.mark.slow if source in AGAIN else ()) for source in GOLDEN])
def test_a_checkpoint_of_every_source_gives_the_golden_logits(source, tmp_path):
    name, rules, form, wrap, layout = GOLDEN[source]
    figures, weights = golden(name), golden_weights(name)
    path = save(wrap(theirs(weights, rules)), tmp_path / "theirs.pth", form)
    output, config = convert_checkpoint(path, tmp_path / "ours")
    assert same(load_weights(output), weights)
    model = build_recognizer(load_config(config))
    fit_weights(model, load_weights(output), output)
    assert layout in (None, model.backbone.layout.name)
    model.eval()
    with paddle.no_grad():
        logits = model(paddle.to_tensor(network_input(figures["input_shape"], figures["seed"]))).numpy()
    expected = np.array(figures["logits"])
    assert np.abs(logits - expected).max() <= 1e-5 * np.abs(expected).max()


def test_the_partition_of_st_gcn_keeps_its_graph_in_the_config_of_st_gcn_plus_plus(tmp_path):
    """For COCO, "spatial" is another graph in ST-GCN++: pyskl's ST-GCN (``mode='stgcn_spatial'``) must not get it."""
    backbone = {"name": "STGCNPlusPlus", "base_channels": 12, "layout": "coco", "strategy": "partition",
                "gcn_adaptive": "importance", "gcn_with_res": False, "tcn_type": "unit_tcn"}
    model = build_model({"framework": "RecognizerGCN", "backbone": backbone,
                         "head": {"name": "STGCNPlusPlusHead", "num_classes": 3, "in_channels": 48}})
    fill(model, {name for name in model.state_dict() if not name.endswith("gcn.A")})
    path = save({"state_dict": theirs(arrays(model), PYSKL)}, tmp_path / "theirs.pth")
    _, config = convert_checkpoint(path, tmp_path / "ours")
    made = load_config(config)["MODEL"]["backbone"]
    assert (made["layout"], made["strategy"]) == ("coco", "partition")
    fresh = build_recognizer(load_config(config))
    graphs = {name: value for name, value in arrays(fresh).items() if name.endswith("gcn.A")}
    assert graphs and all(np.array_equal(value, arrays(model)[name]) for name, value in graphs.items())


@pytest.mark.parametrize("source", ["st-gcn", "pyskl st-gcn++", "ctr-gcn", "posec3d"])
def test_a_checkpoint_of_another_project_is_converted_on_the_way(source, tmp_path, caplog):
    name, rules, form, wrap, _ = GOLDEN[source]
    weights = golden_weights(name)
    path = save(wrap(theirs(weights, rules)), tmp_path / "theirs.pdparams", form)  # the name says nothing
    model = build_model(SPECS[name])
    with caplog.at_level(logging.INFO):
        fit_weights(model, load_weights(path), path)
    assert same(arrays(model), weights)
    assert "PyTorch checkpoint" in caplog.text and "in the format of" in caplog.text


@pytest.fixture(scope="module")
def ctrgcn_state():
    """CTR-GCN of its authors, small: names, arrays, and what they are here."""
    model = fill(build_model({"framework": "RecognizerGCN",
                              "backbone": {"name": "CTRGCN", "base_channel": 16, "graph": "coco", "num_person": 1,
                                           "in_channels": 2},
                              "head": {"name": "CTRGCNHead", "num_classes": 5, "in_channels": 16}}))
    weights = arrays(model)
    return theirs(weights, ST_GCN), weights


@pytest.mark.parametrize(("wrap", "words"), [
    (lambda s: {"state_dict": s, "optimizer": {}}, ["wrapped in 'state_dict'"]),
    (lambda s: {"model": s}, ["wrapped in 'model'"]), (lambda s: {"model_state_dict": s}, ["'model_state_dict'"]),
    (lambda s: {"net": {f"module.{k}": v for k, v in s.items()}}, ["'net'", "names with 'module.'"]),
    (lambda s: {f"model.module.{k}": v for k, v in s.items()}, ["'model.'", "'module.'"]),
    (lambda s: {f"_layers.{k}": v for k, v in s.items()}, ["'_layers.'"]),
    (lambda s: {"state_dict_ema": s}, ["'state_dict_ema', which contains averaged weights (EMA)"]),
    (lambda s: {"state_dict": s, "ema_state_dict": {"steps": np.array(3)}},
     ["not 'ema_state_dict', which is there too"]),
    (lambda s: {"n_averaged": np.array(3), **{f"module.{k}": v for k, v in s.items()}}, ["'module.'"]),
    (lambda s: {"averaged_model": {f"averaged_model.{k}": v for k, v in s.items()}}, ["averaged weights (EMA)"]),
    (lambda s: {**s, **{"ema_" + k.replace(".", "_"): np.array(v + 1) for k, v in s.items()}},
     ["'ema_…'", "was ignored"]),
])
def test_wrapped_forms_are_recognised(wrap, words, ctrgcn_state, tmp_path, caplog):
    state, weights = ctrgcn_state
    path = save(wrap(state), tmp_path / "a.pth")
    with caplog.at_level(logging.INFO):
        assert same(load_weights(path), weights)
    for word in words:
        assert word in caplog.text


def test_a_paddle_checkpoint_may_be_wrapped_too(ctrgcn_state, tmp_path):
    _, weights = ctrgcn_state
    for wrap in (lambda w: {"state_dict": w}, lambda w: {f"_layers.{k}": v for k, v in w.items()}):
        path = tmp_path / "a.pdparams"
        path.write_bytes(pickle.dumps(wrap(weights), 2))
        assert same(load_weights(path), weights)


@pytest.mark.parametrize(("change", "words"), [
    (lambda s: s.pop("l3.gcn1.bn.running_var"), ["1 tensors of the model are missing", "l3.gcn1.bn.running_var"]),
    (lambda s: s.update(extra=np.zeros(2, "f4")), ["1 tensors are not in the model", "extra"]),
    (lambda s: s.update({f"x{i}": np.zeros(2, "f4") for i in range(30)}), ["30 tensors", "x0", "x19", "and 10 more"]),
    (lambda s: s.update({"fc.bias": np.full(5, np.nan, "f4")}), ["fc.bias", "NaN"]),
    (lambda s: s.update({"fc.bias": np.arange(5)}), ["fc.bias", "int64"]),
    (lambda s: [s.pop(k) for k in list(s) if k.startswith("l4.")], ["3 units"]),
    (lambda s: [s.pop(k) for k in list(s) if k.startswith("l")], ["an unknown format", "data_bn", "pyskl"]),
    (lambda s: s.pop("data_bn.weight"), ["incomplete", "data_bn.weight"]),
    (lambda s: s.update({"origin_stream." + k: s.pop(k) for k in list(s)}), ["two-stream"]),
])
def test_every_tensor_has_its_place(change, words, ctrgcn_state, tmp_path):
    state = dict(ctrgcn_state[0])
    change(state)
    path = save(state, tmp_path / "a.pth")
    with pytest.raises(CheckpointError) as error:
        convert_checkpoint(path, tmp_path / "out")
    for word in [*words, str(path)]:
        assert word in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["a.pth"]


def test_structure_is_read_from_the_weights(tmp_path):
    backbone = {"name": "STGCNPlusPlus", "in_channels": 2, "base_channels": 12, "num_stages": 5, "inflate_stages": [3],
                "down_stages": [3, 4], "data_bn_type": "MVC", "num_person": 3, "gcn_adaptive": "init", "layout": "coco",
                "strategy": "inward_outward"}
    spec = {"framework": "RecognizerGCN", "backbone": backbone,
            "head": {"name": "STGCNPlusPlusHead", "num_classes": 11, "in_channels": 24}}
    weights = arrays(fill(build_model(spec)))
    _, config, report = convert_state(theirs(weights, PYSKL))
    assert config["MODEL"]["backbone"].items() >= {**backbone, "gcn_with_res": True, "tcn_type": "mstcn"}.items()
    assert config["MODEL"]["head"].items() >= spec["head"].items()
    assert any("[3, 4]" in line for line in report)
    steps = config["PIPELINE"]["test"]["transform"]
    assert [step["FormatGCNInput"]["num_person"] for step in steps if "FormatGCNInput" in step] == [3]


@pytest.mark.parametrize("adaptive", [None, "init", "offset", "importance"])
def test_how_the_adjacency_is_learned_is_read_from_its_values(adaptive):
    backbone = {"name": "STGCNPlusPlus", "gcn_adaptive": adaptive, "gcn_with_res": False, "tcn_type": "unit_tcn",
                "layout": "coco", "base_channels": 4, "num_stages": 2, "inflate_stages": [2], "down_stages": []}
    weights = arrays(build_model({"framework": "RecognizerGCN", "backbone": backbone,
                                  "head": {"name": "STGCNPlusPlusHead", "in_channels": 8, "num_classes": 3}}))
    rng = np.random.default_rng(0)
    for name in weights:
        if name.endswith("PA"):
            # A long training: importance decays where no edge is, evenly; an offset goes anywhere.
            edges = weights[name.replace("PA", "A")] != 0
            weights[name] = np.where(edges, rng.normal(0.5, 0.2, edges.shape), 0.002 if adaptive == "importance" else
                                     rng.normal(0, 0.1, edges.shape)).astype("f4")
        elif adaptive == "init" and name.endswith("gcn.A"):
            weights[name] = weights[name] + rng.normal(0, 0.05, weights[name].shape).astype("f4")
    _, config, _ = convert_state(theirs(weights, PYSKL))
    assert config["MODEL"]["backbone"]["gcn_adaptive"] == adaptive
    assert config["MODEL"]["backbone"]["layout"] == "coco"


def pyskl_ctrgcn(rng):
    """A state dict of pyskl's CTR-GCN with random weights, made from ours by names and shapes alone."""
    model = build_model({"framework": "RecognizerGCN",
                         "backbone": {"name": "CTRGCN", "base_channel": 16, "graph": "coco", "tcn_act": True},
                         "head": {"name": "CTRGCNHead", "num_classes": 4, "in_channels": 16}})
    renamed = {f"backbone.net.{int(m[1]) - 1}.{m[2]}" if (m := re.match(r"backbone\.l(\d+)\.(.*)", k)) else k: v
               for k, v in arrays(fill(model)).items()}
    state = theirs(renamed, {"^head\\.fc": "cls_head.fc_cls", "\\.PA$": ".A"})
    for name, value in state.items():
        if name.endswith("alpha"):
            state[name] = np.float32([0.7])
        elif name.endswith(".A"):
            state[name] = value + rng.normal(0, 0.05, value.shape).astype("f4")
    state["backbone.A"] = adjacency(get_layout("coco"), "inward_outward")
    return state


def test_pyskls_ctrgcn_sends_along_the_transposed_topology():
    rng = np.random.default_rng(0)
    state = pyskl_ctrgcn(rng)
    weights, config, _ = convert_state(state)
    assert config["MODEL"]["backbone"]["tcn_act"] is True
    assert config["MODEL"]["backbone"]["graph"] == "coco"
    layer = ctrgcn.RefinedGraphConv(16, 16, adjacency(get_layout("coco"), "inward_outward"))
    prefix = "backbone.l2.gcn1."
    layer.set_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
    layer.eval()
    x = rng.normal(size=(2, 16, 6, 17)).astype("f4")

    def theirs_at(name):
        return state[f"backbone.net.1.gcn1.{name}"].astype("f8")

    def conv(name, value):
        weight, bias = theirs_at(f"{name}.weight")[:, :, 0, 0], theirs_at(f"{name}.bias")
        return np.einsum("oi,ni...->no...", weight, value) + bias.reshape(-1, *[1] * (value.ndim - 2))
    y = 0
    for subset in range(3):
        at = f"convs.{subset}"
        difference = conv(f"{at}.conv1", x.mean(2))[..., :, None] - conv(f"{at}.conv2", x.mean(2))[..., None, :]
        graph = conv(f"{at}.conv4", np.tanh(difference)) * theirs_at("alpha") + theirs_at("A")[subset]
        y = y + np.einsum("ncuv,nctu->nctv", graph, conv(f"{at}.conv3", x))  # from u to v, in pyskl
    scale = (theirs_at("bn.weight") / np.sqrt(theirs_at("bn.running_var") + 1e-5)).reshape(-1, 1, 1)
    shift = theirs_at("bn.bias").reshape(-1, 1, 1) - theirs_at("bn.running_mean").reshape(-1, 1, 1) * scale
    expected = np.maximum(y * scale + shift + x, 0)
    with paddle.no_grad():
        np.testing.assert_allclose(layer(paddle.to_tensor(x)).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_pyskls_ctrgcn_has_a_relu_after_its_temporal_block():
    plain, act = (ctrgcn.MultiScaleTemporalConv(8, 2, act) for act in (False, True))
    fill(plain)
    act.set_state_dict(plain.state_dict())
    act.eval()
    x = paddle.to_tensor(np.random.default_rng(0).normal(size=(2, 8, 9, 5)).astype("f4"))
    with paddle.no_grad():
        found, before = act(x).numpy(), plain(x).numpy()
    assert (before < 0).any()
    np.testing.assert_array_equal(found, np.maximum(before, 0))


def test_the_temporal_convolution_of_one_scale():
    layer = fill(stgcn_plusplus.SingleScaleTemporalConv(3, 2, 0.5))
    x = np.random.default_rng(0).normal(size=(2, 3, 11, 4))
    state = {k: v.astype("f8") for k, v in arrays(layer).items()}
    padded = np.pad(x, [(0, 0), (0, 0), (4, 4), (0, 0)])
    y = np.stack([np.einsum("oik,nikv->nov", state["conv.weight"][..., 0], padded[:, :, 2 * t:2 * t + 9])
                  for t in range(6)], axis=2) + state["conv.bias"].reshape(-1, 1, 1)
    scale = state["bn.weight"] / np.sqrt(state["bn._variance"] + 1e-5)
    expected = (y - state["bn._mean"].reshape(-1, 1, 1)) * scale.reshape(-1, 1, 1) + state["bn.bias"].reshape(-1, 1, 1)
    with paddle.no_grad():
        np.testing.assert_allclose(layer(paddle.to_tensor(x.astype("f4"))).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_weights_of_another_function_do_not_slip_into_a_model_of_the_same_names(tmp_path):
    path = save(pyskl_ctrgcn(np.random.default_rng(0)), tmp_path / "a.pth")
    spec = {"framework": "RecognizerGCN", "backbone": {"name": "CTRGCN", "base_channel": 16, "graph": "coco"},
            "head": {"name": "CTRGCNHead", "num_classes": 4, "in_channels": 16}}
    with pytest.raises(CheckpointError, match=r"needs tcn_act: True.*convert_weights"):
        fit_weights(build_model(spec), load_weights(path), path)
    spec["backbone"]["tcn_act"] = True
    fit_weights(build_model(spec), load_weights(path), path)


def test_a_custom_skeleton(tmp_path):
    bones = [[0, 1], [1, 2], [1, 3], [3, 4]]
    layout = {"name": "five", "joints": 5, "bones": bones, "center": 1}
    model = fill(small("STGCN", layout=layout))
    path = save(theirs(arrays(model), ST_GCN), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="--layout"):
        convert_checkpoint(path, tmp_path / "out")
    own = tmp_path / "layout.yaml"
    own.write_text(yaml.safe_dump({"LAYOUT": {"five": {"joints": 5, "bones": bones, "center": 1}}}))
    output, config = convert_checkpoint(path, tmp_path / "out", layout=str(own))
    recognizer = build_recognizer(load_config(config))
    fit_weights(recognizer, load_weights(output), output)
    assert same(arrays(recognizer), arrays(model))
    for wrong, words in (("coco", "5 joints, the layout coco has 17"), ("no such", "unknown layout")):
        with pytest.raises((CheckpointError, ConfigError), match=words):
            convert_checkpoint(path, tmp_path / "other", layout=wrong)


def test_a_fixed_topology_comes_from_the_named_skeleton(tmp_path):
    spec = {"framework": "RecognizerGCN", "backbone": {"name": "CTRGCN", "base_channel": 16, "adaptive": False},
            "head": {"name": "CTRGCNHead", "num_classes": 4, "in_channels": 16}}
    weights = arrays(build_model(spec))
    state = {k: v for k, v in theirs(weights, ST_GCN).items() if not k.endswith("gcn1.A")}
    path = save(state, tmp_path / "a.pth")
    for use in (lambda: convert_checkpoint(path, tmp_path / "out"), lambda: load_weights(path)):
        with pytest.raises(CheckpointError, match=r"no adjacency.*--layout"):
            use()
    output, config = convert_checkpoint(path, tmp_path / "out", layout="ntu-rgb+d")
    assert same(load_weights(output), weights)
    assert load_config(config)["MODEL"]["backbone"]["num_person"] == 2
    with pytest.raises(CheckpointError, match="do not divide"):
        convert_checkpoint(path, tmp_path / "out", layout="coco")


@pytest.mark.parametrize("kind", WEIGHTS_FORMATS)
def test_formats(kind, ctrgcn_state, tmp_path):
    state, weights = ctrgcn_state
    source = save(state, tmp_path / "a.pt")
    output, config = convert_checkpoint(source, tmp_path / "out", kind, tmp_path / "given.yaml")
    assert output == tmp_path / f"out.{kind}"
    assert config == tmp_path / "given.yaml"
    assert same(load_weights(output), weights)
    again, none = convert_checkpoint(output, tmp_path / f"again.{'safetensors' if kind == 'pdparams' else 'pdparams'}")
    assert none is None
    assert same(load_weights(again), weights)
    assert same({k: v.numpy() for k, v in paddle.load(str(again)).items()} if again.suffix == ".pdparams" else
                safetensors.numpy.load_file(again), weights)


def test_safetensors_of_another_project_and_of_every_type(ctrgcn_state, tmp_path):
    state, weights = ctrgcn_state
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(dict(state), path)
    assert same(load_weights(path), weights)
    upper = (np.float32([1.5, -2, 3.140625]).view("u4") >> 16).astype("u2")
    header = json.dumps({"a": {"dtype": "BF16", "shape": [3, 1], "data_offsets": [0, 6]},
                         "b": {"dtype": "F16", "shape": [2], "data_offsets": [6, 10]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + upper.tobytes() + np.float16([1, 2]).tobytes())
    found = load_weights(path)
    np.testing.assert_array_equal(found["a"], [[1.5], [-2], [3.140625]])
    np.testing.assert_array_equal(found["b"], [1, 2])
    whole = path.read_bytes()
    for end in (9, 20, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            load_weights(path)


def test_the_command(ctrgcn_state, tmp_path, capsys):
    path = save(ctrgcn_state[0], tmp_path / "a.pth")
    assert main(["convert-weights", str(path), "-o", str(tmp_path / "out.pdparams")]) == 0
    said = capsys.readouterr().out
    for words in ("PyTorch checkpoint (zip format)", "CTR-GCN in the format of its own repository",
                  "batch counters omitted", "closest to coco", "fit the config's model", "out.yaml"):
        assert words in said
    head = (tmp_path / "out.yaml").read_text().splitlines()[:3]
    assert head[0] == "# Made from a.pth by tools/convert_weights.py."
    assert main(["convert-weights", str(tmp_path / "absent.pth"), "-o", str(tmp_path / "x")]) == 2
    assert "checkpoint not found" in capsys.readouterr().err


def test_no_paddle_is_needed(ctrgcn_state, tmp_path):
    path = save(ctrgcn_state[0], tmp_path / "a.pth")
    script = ("import sys; sys.modules['paddle'] = None\n"
              "from paddlevideo_skel.cli import main\n"
              "sys.exit(main(['convert-weights', sys.argv[1], '-o', sys.argv[2]]))\n")
    done = subprocess.run([sys.executable, "-c", script, path, tmp_path / "out.safetensors"], capture_output=True,
                          text=True, cwd=ROOT, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "Paddle is not installed" in done.stdout
    assert same(load_weights(tmp_path / "out.safetensors"), ctrgcn_state[1])
