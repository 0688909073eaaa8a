"""A checkpoint's skeleton is recognised by its adjacency, learned or not; an unknown one must be named."""
import numpy as np
import pytest

from paddlevideo_skel.checkpoints.layouts import find_layout
from paddlevideo_skel.errors import CheckpointError
from paddlevideo_skel.skeleton import adjacency, get_layout

COCO = adjacency(get_layout("coco"), "spatial")


def find(graph, learned=False, layout=None):
    found, strategy, line = find_layout(graph, learned, layout and get_layout(layout), "a.pth")
    return found.name, strategy, line


@pytest.mark.parametrize("name", ["coco", "coco_keypoint", "ntu-rgb+d", "ntu-rgb+d-pyskl", "openpose", "fsd10",
                                  "hand", "kinect20"])
@pytest.mark.parametrize("strategy", ["spatial", "inward_outward", "uniform", "distance"])
def test_each_is_known_by_its_adjacency_learned_or_not(name, strategy):
    graph = adjacency(get_layout(name), strategy)
    moved = graph + np.random.default_rng(0).normal(0, 0.05, graph.shape)
    assert find(graph)[:2] == find(moved, True)[:2] == (name, strategy)


def test_an_unknown_one_must_be_named():
    other = COCO.copy()
    other[1, 3, 5] = 0.5
    with pytest.raises(CheckpointError, match=r"no known layout.*closest to coco, spatial.*--layout"):
        find(other)
    with pytest.raises(CheckpointError, match="--layout"):
        find(np.random.default_rng(0).normal(size=(3, 17, 17)), True)
    with pytest.raises(CheckpointError, match=r"hardly closer.*coco"):
        find((COCO + adjacency(get_layout("coco_keypoint"), "spatial")) / 2, True)
    with pytest.raises(CheckpointError, match=r"\(3, 7, 7\)"):
        find(np.zeros((3, 7, 7)))
    name, strategy, line = find(other, layout="coco")
    assert (name, strategy) == ("coco", "spatial")
    assert "is kept" in line
