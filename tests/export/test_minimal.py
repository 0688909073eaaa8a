"""The minimal graph is the same function: layer by layer, model by model, and against the golden logits."""
import numpy as np
import paddle
import pytest
from deploy_cases import dynamic
from golden_fill import MODELS, entry, fill, golden, network_input
from small_models import TRIANGLE, small_spec

from paddlevideo_skel.errors import ExportError
from paddlevideo_skel.export.minimal import MINIMAL_REWRITES, minimise
from paddlevideo_skel.models import build_model, ctrgcn, posec3d, stgcn, stgcn_plusplus
from paddlevideo_skel.models.recognizers import Recognizer3D, RecognizerGCN
from paddlevideo_skel.skeleton import adjacency, get_layout

A = adjacency(get_layout(TRIANGLE))
NO_GCN, NO_TCN = {"adaptive": "init", "with_res": True}, {}
LAYERS = {
    "ctrgcn graph, convolution": (lambda: ctrgcn.RefinedGraphConv(16, 32, A), 16),
    "ctrgcn graph, identity": (lambda: ctrgcn.RefinedGraphConv(16, 16, A), 16),
    "ctrgcn graph, fixed topology": (lambda: ctrgcn.RefinedGraphConv(16, 16, A, adaptive=False), 16),
    "ctrgcn time": (lambda: ctrgcn.MultiScaleTemporalConv(16), 16),
    "ctrgcn time, stride": (lambda: ctrgcn.MultiScaleTemporalConv(16, 2), 16),
    "ctrgcn time, relu": (lambda: ctrgcn.MultiScaleTemporalConv(16, 1, act=True), 16),
    "ctrgcn unit, no residual": (lambda: ctrgcn.CTRGCNUnit(3, 16, A, residual=False), 3),
    "ctrgcn unit, identity": (lambda: ctrgcn.CTRGCNUnit(16, 16, A), 16),
    "ctrgcn unit, convolution": (lambda: ctrgcn.CTRGCNUnit(16, 32, A, stride=2), 16),
    "st-gcn++ graph, convolution": (lambda: stgcn_plusplus.AdaptiveGraphConv(12, 24, A, "init", True), 12),
    "st-gcn++ graph, identity": (lambda: stgcn_plusplus.AdaptiveGraphConv(12, 12, A, "offset", True), 12),
    "st-gcn++ graph, no residual": (lambda: stgcn_plusplus.AdaptiveGraphConv(12, 24, A, "importance", False), 12),
    "st-gcn++ graph, fixed": (lambda: stgcn_plusplus.AdaptiveGraphConv(12, 12, A, None, True), 12),
    "st-gcn++ time": (lambda: stgcn_plusplus.MultiBranchTemporalConv(14), 14),
    "st-gcn++ time, stride": (lambda: stgcn_plusplus.MultiBranchTemporalConv(12, 2, 0.5), 12),
    "st-gcn++ time, one scale": (lambda: stgcn_plusplus.SingleScaleTemporalConv(12, 2, 0.5), 12),
    "st-gcn++ block, no residual": (lambda: stgcn_plusplus.STGCNPlusPlusUnit(3, 12, A, 1, False, NO_GCN, NO_TCN), 3),
    "st-gcn++ block, identity": (lambda: stgcn_plusplus.STGCNPlusPlusUnit(12, 12, A, 1, True, NO_GCN, NO_TCN), 12),
    "st-gcn++ block, convolution": (lambda: stgcn_plusplus.STGCNPlusPlusUnit(12, 24, A, 2, True, NO_GCN, NO_TCN), 12),
}
# A family of ``small_models``, arguments of its backbone, and the shape of a sample.
VARIANTS = {
    "ctrgcn, one person": ("CTRGCN", {}, (3, 16, 5, 1)),
    "ctrgcn, three persons in 2D": ("CTRGCNLite", {}, (2, 16, 5, 3)),
    "ctrgcn, eight units, fixed": ("CTRGCNLite", {"remove_l9": True, "adaptive": False, "in_channels": 3,
                                                  "num_person": 2}, (3, 16, 5, 2)),
    "st-gcn++, clips": ("STGCNPlusPlus", {}, (3, 2, 16, 5, 3)),
    "st-gcn++, persons apart": ("STGCNPlusPlus", {"data_bn_type": "MVC", "num_person": 3}, (2, 3, 16, 5, 3)),
    "st-gcn++, no data_bn": ("STGCNPlusPlus", {"data_bn_type": None, "gcn_adaptive": "importance",
                                               "gcn_with_res": False}, (1, 1, 16, 5, 3)),
    "st-gcn of pyskl": ("STGCNPlusPlus", {"gcn_adaptive": "importance", "gcn_with_res": False,
                                          "tcn_type": "unit_tcn"}, (1, 2, 16, 5, 3)),
    "st-gcn, two persons": ("STGCN", {"dropout": 0.5}, (3, 16, 5, 2)),
    "st-gcn, bare": ("STGCN", {"edge_importance_weighting": False, "data_bn": False, "strategy": "uniform",
                               "in_channels": 2}, (2, 9, 5, 1)),
    "posec3d": ("ResNet3dSlowOnly", {}, (5, 9, 18, 16)),
    "posec3d, clips": ("ResNet3dSlowOnly", {}, (3, 5, 8, 16, 16)),
    "posec3d, neighbours in the second convolution": (
        "ResNet3dSlowOnly", {"inflate_style": "3x3x3", "inflate": [1, [1, 0], 1], "dilations": [1, 2, 3],
                             "stage_blocks": [1, 2, 1], "temporal_strides": [2, 2, 1]}, (5, 9, 18, 16)),
    "posec3d, pooled in time": ("ResNet3dSlowOnly", {"with_pool2": True, "pool1_stride_t": 2, "pool1_stride_s": 2},
                                (2, 5, 9, 16, 16)),
    "posec3d, hardly any frames": ("ResNet3dSlowOnly", {"with_pool1": False}, (5, 1, 16, 16)),
    "posec3d, long first kernel": (
        "ResNet3dSlowOnly", {"conv1_kernel": [5, 3, 7], "conv1_stride_t": 2, "conv1_stride_s": 2}, (5, 9, 18, 16)),
}


def relative(found, right):
    return np.abs(found - right).max() / np.abs(right).max()


def mixed_signs(layer):
    """Half of the BatchNorm scales negative: a maximum must not be folded through them."""
    for name, value in layer.state_dict().items():
        if len(value.shape) == 1 and name.endswith("weight"):
            value.set_value(value.numpy() * np.where(np.arange(value.shape[0]) % 2, 1, -1).astype("float32"))


@pytest.mark.parametrize("signs", [False, True], ids=["positive", "mixed signs"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_stays_the_same_function(name, signs):
    make, channels = LAYERS[name]
    layer = fill(make())
    if signs:
        mixed_signs(layer)
    x = network_input((2, channels, 12, 5))
    slim = dynamic(minimise(layer), x.swapaxes(2, 3))
    assert relative(slim.swapaxes(2, 3), dynamic(layer, x)) < 1e-5


@pytest.mark.parametrize("name", VARIANTS)
def test_a_small_model_stays_the_same_function(name):
    family, changes, shape = VARIANTS[name]
    model = fill(build_model(small_spec(family, **changes)))
    before = {key: value.numpy() for key, value in model.state_dict().items()}
    x = network_input((2, *shape))
    slim = minimise(model)
    assert relative(dynamic(slim, x), dynamic(model, x)) < 1e-5
    assert all(np.array_equal(before[key], value.numpy()) for key, value in model.state_dict().items())
    names = [type(layer).__name__ for layer in slim.sublayers()]
    assert not [name for name in names if "BatchNorm" in name or "Dropout" in name]


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.slow) if name == "stgcn_ntu" else name for name in MODELS])
def test_a_full_model_gives_the_golden_logits(name):
    figures = golden(name)
    model = build_model(MODELS[name])
    fill(model, figures["state_dict"], figures["seed"])
    x = network_input(figures["input_shape"], figures["seed"])
    slim = dynamic(minimise(model), x)
    assert relative(slim, dynamic(model, x)) < 1e-5
    assert relative(slim, np.array(figures["logits"], "float32")) < 1e-4


def test_every_rewrite_is_tested():
    tested = {type(make()) for make, _ in LAYERS.values()}
    backbones = {ctrgcn.CTRGCN, posec3d.ResNet3dSlowOnly, stgcn.STGCN, stgcn_plusplus.STGCNPlusPlus}
    assert set(MINIMAL_REWRITES) == tested | backbones | {Recognizer3D, RecognizerGCN}


def test_a_layer_without_a_rewrite_is_told():
    with pytest.raises(ExportError, match="Linear: has no minimal version"):
        minimise(paddle.nn.Linear(2, 2))


def test_the_formula_of_the_weights():
    """The golden weights are not trivial: an alpha of 0 or equal scales would hide a wrong fold."""
    assert abs(entry("x.alpha", (1,))[0]) > 0.05
    assert entry("x.weight", (8,)).std() > 0.05
