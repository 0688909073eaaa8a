"""Every model × layout × strategy of a published config starts from the graph that the model's own code builds."""
import numpy as np
import paddle
import pytest
from golden_fill import GOLDEN, MODELS, fill, golden, network_input

from paddlevideo_skel.errors import ConfigError
from paddlevideo_skel.models import build_model

REFERENCES = np.load(GOLDEN / "adjacency.npz")
# Model, layout, strategy, the reference implementation's array: PaddleVideo's and pyskl's configs.
PUBLISHED = [
    ("STGCN", "ntu-rgb+d", "spatial", "stgcn_ntu-rgb+d"), ("STGCN", "fsd10", "spatial", "stgcn_fsd10"),
    ("STGCN", "coco_keypoint", "spatial", "stgcn_coco_keypoint"), ("STGCN", "openpose", "spatial", "stgcn_openpose"),
    ("STGCNPlusPlus", "coco_keypoint", "spatial", "stgcnpp_coco_keypoint"),
    ("STGCNPlusPlus", "coco", "stgcn_spatial", "stgcnpp_coco"), ("STGCNPlusPlus", "coco", "spatial", "stgcnpp_coco"),
    ("STGCNPlusPlus", "ntu-rgb+d", "spatial", "stgcnpp_ntu-rgb+d"),
    ("STGCNPlusPlus", "coco", "inward_outward", "mmaction_spatial_coco"),
    ("STGCNPlusPlus", "ntu-rgb+d-pyskl", "inward_outward", "mmaction_spatial_nturgb+d"),
    ("STGCNPlusPlus", "openpose", "inward_outward", "mmaction_spatial_openpose"),
    ("STGCNPlusPlus", "coco_keypoint", "partition", "stgcn_coco_keypoint"),
    ("CTRGCN", "ntu_rgb_d", None, "ctrgcn_ntu_rgb_d"), ("CTRGCNLite", "ntu_rgb_d", None, "ctrgcn_ntu_rgb_d")]
HEADS = {"STGCN": ("STGCNHead", 256), "STGCNPlusPlus": ("STGCNPlusPlusHead", 48), "CTRGCN": ("CTRGCNHead", 16),
         "CTRGCNLite": ("CTRGCNHead", 16)}
NARROW = {"STGCN": {}, "STGCNPlusPlus": {"base_channels": 12}, "CTRGCN": {"base_channel": 16},
          "CTRGCNLite": {"base_channel": 16}}


def build(name, layout, strategy):
    backbone = {"name": name, ("graph" if name.startswith("CTR") else "layout"): layout, **NARROW[name]}
    if strategy:
        backbone["strategy"] = strategy
    head, width = HEADS[name]
    return build_model({"framework": "RecognizerGCN", "backbone": backbone,
                        "head": {"name": head, "num_classes": 3, "in_channels": width}})


@pytest.mark.parametrize(("name", "layout", "strategy", "reference"), PUBLISHED)
def test_the_graph_is_the_references(name, layout, strategy, reference):
    state = build(name, layout, strategy).state_dict()
    graphs = [value.numpy() for key, value in state.items() if key.rsplit(".", 1)[-1] in ("A", "PA")]
    assert graphs and all(np.array_equal(graph, REFERENCES[reference]) for graph in graphs)


def test_every_reference_of_st_gcn_plus_plus_is_compared():
    assert set(REFERENCES.files) == {reference for *_, reference in PUBLISHED}


@pytest.mark.parametrize(("layout", "strategy"), [("coco_keypoint", "spatial"), ("coco", "stgcn_spatial")])
def test_upstreams_config_and_the_authors_branch_give_the_golden_logits(layout, strategy):
    figures, spec = golden("stgcn_plusplus_coco"), MODELS["stgcn_plusplus_coco"]
    model = build_model({**spec, "backbone": {**spec["backbone"], "layout": layout, "strategy": strategy}})
    fill(model, figures["state_dict"], figures["seed"])
    with paddle.no_grad():
        logits = model(paddle.to_tensor(network_input(figures["input_shape"], figures["seed"]))).numpy()
    expected = np.array(figures["logits"])
    assert np.abs(logits - expected).max() <= 1e-5 * np.abs(expected).max()


def test_an_unknown_strategy_is_refused_with_the_models_own_names():
    with pytest.raises(ConfigError, match=r"MODEL\.backbone: STGCNPlusPlus: strategy is.*'stgcn_spatial'"):
        build("STGCNPlusPlus", "coco", "stgcn_spatal")
    with pytest.raises(ConfigError, match=r"MODEL\.backbone: STGCN: strategy is 'stgcn_spatial'"):
        build("STGCN", "coco", "stgcn_spatial")
