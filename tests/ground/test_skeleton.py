import numpy as np
import pytest
from golden_fill import GOLDEN
from hypothesis import given
from hypothesis import strategies as st

from paddlevideo_skel.errors import ConfigError
from paddlevideo_skel.skeleton import LAYOUT_ALIASES, LAYOUTS, adjacency, get_layout

GOLDEN_ADJACENCY = {
    "ctrgcn_ntu_rgb_d": ("ntu_rgb_d", "inward_outward"),
    "stgcn_ntu-rgb+d": ("ntu-rgb+d", "spatial"),
    "stgcn_fsd10": ("fsd10", "spatial"),
    "stgcn_coco_keypoint": ("coco_keypoint", "spatial"),
    "stgcn_openpose": ("openpose", "spatial"),
    "mmaction_spatial_coco": ("coco", "inward_outward"),
    "mmaction_spatial_nturgb+d": ("ntu-rgb+d-pyskl", "inward_outward"),
    "mmaction_spatial_openpose": ("openpose", "inward_outward"),
}


def test_every_golden_adjacency_has_a_layout():
    # ST-GCN++ gives strategies a meaning of its own: tests/models/test_graphs.py.
    names = {name for name in np.load(GOLDEN / "adjacency.npz").files if not name.startswith("stgcnpp")}
    assert names == set(GOLDEN_ADJACENCY)


@pytest.mark.parametrize("name", GOLDEN_ADJACENCY)
def test_adjacency_equals_the_reference_in_every_entry(name):
    layout, strategy = GOLDEN_ADJACENCY[name]
    np.testing.assert_array_equal(adjacency(get_layout(layout), strategy), np.load(GOLDEN / "adjacency.npz")[name])


@pytest.mark.parametrize("name", [*LAYOUTS, *LAYOUT_ALIASES])
def test_layouts_are_whole(name):
    layout = get_layout(name)
    assert (layout.hops_to(layout.center) >= 0).all()
    assert len(set(layout.joints)) == layout.num_joints
    assert len(layout.left) == len(layout.right)
    assert not set(layout.left) & set(layout.right)
    for left, right in zip(layout.left, layout.right):
        assert layout.joints[left].replace("left", "right") == layout.joints[right]
    parents = layout.parents()
    assert parents.shape == (layout.num_joints,)
    roots = [j for j in range(layout.num_joints) if parents[j] == j]
    assert len(roots) == 1


@pytest.mark.parametrize(("name", "joints"), [("ntu-rgb+d", 25), ("coco", 17), ("coco_keypoint", 17), ("openpose", 18),
                                              ("fsd10", 25), ("hand", 21), ("kinect20", 20)])
def test_number_of_joints(name, joints):
    assert get_layout(name).num_joints == joints


def test_bone_parents_of_the_ntu_skeleton():
    # The published pairs (joints from 1): (1,2) (2,21) (3,21) (4,3) ... (22,23) (21,21) (23,8) (24,25) (25,12).
    published = [2, 21, 21, 3, 21, 5, 6, 7, 21, 9, 10, 11, 1, 13, 14, 15, 1, 17, 18, 19, 21, 23, 8, 25, 12]
    np.testing.assert_array_equal(get_layout("ntu-rgb+d").parents() + 1, published)


@st.composite
def random_trees(draw):
    size = draw(st.integers(2, 30))
    bones = [(j, draw(st.integers(0, j - 1))) for j in range(1, size)]
    bones = [bone if draw(st.booleans()) else bone[::-1] for bone in bones]
    return {"joints": size, "bones": draw(st.permutations(bones)), "center": draw(st.integers(0, size - 1))}


@given(random_trees())
def test_adjacency_of_any_tree(spec):
    layout = get_layout(spec)
    size = layout.num_joints
    spatial = adjacency(layout, "spatial")
    # One stack's columns together are the normalised neighbourhood: each joint sends out 1 in all.
    np.testing.assert_allclose(spatial.sum(axis=(0, 1)), 1, rtol=1e-6)
    neighbours = {(a, b) for bone in layout.bones for a, b in (bone, bone[::-1])}
    assert {(int(i), int(j)) for i, j in zip(*np.nonzero(spatial[1] + spatial[2]))} == neighbours
    np.testing.assert_array_equal(spatial[0] > 0, np.eye(size, dtype=bool))
    identity, inward, outward = adjacency(layout, "inward_outward")
    np.testing.assert_array_equal(identity, np.eye(size))
    hops = layout.hops_to(layout.center)
    for target, source in zip(*np.nonzero(inward)):
        assert hops[target] == hops[source] - 1
    np.testing.assert_array_equal(inward > 0, outward.T > 0)


def test_a_user_layout_counted_from_one():
    layout = get_layout({"name": "y", "joints": ["a", "b", "c"], "bones": [[1, 2], [3, 2]], "center": 2,
                         "left": [1], "right": [3], "one_based": True})
    assert (layout.bones, layout.center, layout.left, layout.right) == (((0, 1), (2, 1)), 1, (0,), (2,))
    assert get_layout(layout.to_dict()) == layout


@pytest.mark.parametrize(("change", "words"), [
    ({"bones": [[0, 1]]}, ["LAYOUT.x.bones", "2 (joint_2)"]),
    ({"bones": [[0, 1], [1, 3]]}, ["LAYOUT.x.bones", "3", "0..2"]),
    ({"bones": [[0, 1], [2, 2]]}, ["two different joints"]),
    ({"center": 7}, ["LAYOUT.x.center", "7"]),
    ({"center": True}, ["LAYOUT.x.center"]),
    ({"joints": 0}, ["LAYOUT.x.joints", "0"]),
    ({"left": [0]}, ["1 joints on the left, 0 on the right"]),
    ({"centre": 0}, ["LAYOUT.x.centre", "did you mean 'center'".capitalize()]),
    ({"bone_parents": [0]}, ["1 numbers for 3 joints"]),
])
def test_a_wrong_layout_is_told(change, words):
    spec = {"joints": 3, "bones": [[0, 1], [1, 2]], "center": 0, **change}
    with pytest.raises(ConfigError) as error:
        get_layout(spec, "LAYOUT.x")
    for word in words:
        assert word in str(error.value)


def test_unknown_names_come_with_a_near_miss():
    with pytest.raises(ConfigError, match="'ntu-rgb\\+d'"):
        get_layout("ntu-rgbd")
    with pytest.raises(ValueError, match="Did you mean 'spatial'"):
        adjacency(get_layout("coco"), "spatal")
