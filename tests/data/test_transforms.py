"""Transforms against golden figures of PaddleVideo and mmaction2, closed forms, and plain loops here."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import GOLDEN as GOLDEN_FOLDER
from paths import SHARED
from transform_cases import make, rng, sample

from paddlevideo_skel.data.annotation import Annotation
from paddlevideo_skel.data.pipeline import Pipeline
from paddlevideo_skel.data.readers import read_sample
from paddlevideo_skel.data.transforms.coordinates import rotation_between, rotation_matrix
from paddlevideo_skel.errors import ConfigError, DataError
from paddlevideo_skel.skeleton import get_layout

GOLDEN = np.load(GOLDEN_FOLDER / "transforms.npz")
NTU_PAIRS = ((1, 2), (2, 21), (3, 21), (4, 3), (5, 21), (6, 5), (7, 6), (8, 7), (9, 21), (10, 9), (11, 10), (12, 11),
             (13, 1), (14, 13), (15, 14), (16, 15), (17, 1), (18, 17), (19, 18), (20, 19), (22, 23), (21, 21), (23, 8),
             (24, 25), (25, 12))  # from 2s-AGCN's and CTR-GCN's papers' graph; counted from 1
COCO_PAIRS = ((0, 0), (1, 0), (2, 0), (3, 1), (4, 2), (5, 0), (6, 0), (7, 5), (8, 6), (9, 7), (10, 8), (11, 0),
              (12, 0), (13, 11), (14, 12), (15, 13), (16, 14))
real_samples = pytest.mark.skipif(not SHARED.joinpath("data").is_dir(), reason="the real samples are not here")


def test_every_transform_leaves_its_input_alone_and_is_repeatable():
    steps = {
        "AutoPadding": {"window_size": 8, "random_pad": True}, "SkeletonNorm": {}, "Iden": {},
        "RandomRotation": {"argument": True}, "SketeonCropSample": {"window_size": 9, "p_interval": [0.5, 1]},
        "SketeonModalityTransform": {"bone": True, "motion": True, "joint": False},
        "UniformSampleFrames": {"clip_len": 8},
        "PreNormalize2D": {}, "PreNormalize3D": {}, "GenSkeFeat": {"feats": ["j", "b", "jm", "bm"]}, "PoseDecode": {},
        "FormatGCNInput": {}, "FormatPersons": {"num_person": 3}, "Collect": {"keys": ["keypoint", "label"]},
        "SampleFrame": {"window_size": 20}, "RandomChoose": {"window_size": 8}, "RandomMove": {},
    }
    for name, arguments in steps.items():
        step, results = make(name, **arguments), []
        for _ in range(2):
            annotation = sample()
            before = annotation.keypoint.copy()
            annotation.keypoint.setflags(write=False)
            result = step(annotation, rng(5))
            np.testing.assert_array_equal(annotation.keypoint, before, err_msg=name)
            assert annotation.array is None and annotation.frame_inds is None and annotation.num_clips == 1
            results.append(result)
        for field in ("keypoint", "array", "frame_inds"):
            np.testing.assert_array_equal(getattr(results[0], field), getattr(results[1], field), err_msg=name)


# Golden figures. The real samples stay where they are.

CROP = {"SketeonCropSample": {"window_size": 64, "p_interval": [0.95]}}
COLLECT = {"Collect": {"keys": ["keypoint", "label"], "meta_keys": []}}


def uniform(clips):
    return {"name": "UniformSampleFrames", "clip_len": 100, "num_clips": clips, "test_mode": True}


@real_samples
def test_golden_ctrgcn_crop():
    annotation, = read_sample(SHARED / "data" / "example_ntu_rgbd_skeleton.npy")
    pipeline = Pipeline({"sample": [{"Iden": None}, CROP], "transform": [{"RandomRotation": {"argument": False}}]})
    np.testing.assert_allclose(pipeline(annotation, rng()), GOLDEN["ctrgcn_center_crop_resize"], atol=1e-6)


@real_samples
@pytest.mark.parametrize("clips", [1, 10])
def test_golden_stgcnpp(clips):
    annotation, = read_sample(SHARED / "data" / "example_ntu60_skeleton.pkl")
    pipeline = Pipeline({"decode_sampler": uniform(clips), "transform": [
        {"PreNormalize2D": None}, {"GenSkeFeat": {"dataset": "coco", "feats": ["j"]}}, {"PoseDecode": None},
        {"FormatGCNInput": {"num_person": 2}}, COLLECT]})
    # PaddleVideo normalises in the file's half precision; 2.5e-4 is half a unit of it near 1.
    np.testing.assert_allclose(pipeline(annotation, rng()), GOLDEN[f"stgcnpp_test_{clips}clip"], atol=2.5e-4)


@real_samples
@pytest.mark.parametrize("feat", ["j", "b", "jm", "bm"])
@pytest.mark.parametrize(("kind", "file", "normalize", "dataset"), [
    ("coco", "example_ntu60_skeleton.pkl", "PreNormalize2D", "coco"),
    ("ntu3d", "example_ntu_rgbd_skeleton.npy", "PreNormalize3D", "nturgb+d")])
def test_golden_features(kind, file, normalize, dataset, feat):
    annotation, = read_sample(SHARED / "data" / file)
    pipeline = Pipeline({"transform": [normalize, {"GenSkeFeat": {"dataset": dataset, "feats": [feat]}}, uniform(1),
                                       "PoseDecode", "FormatGCNInput"]})
    np.testing.assert_allclose(pipeline(annotation, rng()), GOLDEN[f"{kind}_feat_{feat}"], atol=1e-6)


# Coordinates.


def test_skeleton_norm():
    annotation = sample(joints=25)
    normed = make("SkeletonNorm")(annotation, rng()).data
    assert normed.shape == (2, 12, 25, 2)
    for c, t, v, m in ((0, 0, 0, 0), (1, 5, 24, 1), (0, 3, 8, 1)):
        assert normed[c, t, v, m] == annotation.data[c, t, v, m] - annotation.data[c, t, 8, m]
    assert make("SkeletonNorm", axis=3)(annotation, rng()).data.shape[0] == 3
    alone = make("SkeletonNorm", squeeze=True)(sample(1), rng())
    np.testing.assert_array_equal(alone.array, alone.data[..., 0])


def test_rotation():
    annotation, step = sample(seed=3), make("RandomRotation", argument=True, theta=0.3)
    angles = rng(7).uniform(-0.3, 0.3, 3)
    (a, b, c), (sa, sb, sc) = np.cos(angles), np.sin(angles)
    expected = np.array([[c, sc, 0], [-sc, c, 0], [0, 0, 1]]) @ np.array([[b, 0, -sb], [0, 1, 0], [sb, 0, b]]) @ (
        np.array([[1, 0, 0], [0, a, sa], [0, -sa, a]]))
    turned = step(annotation, rng(7))
    for m, t, v in ((0, 0, 0), (1, 11, 24), (1, 4, 9)):
        np.testing.assert_allclose(turned.keypoint[m, t, v], expected @ annotation.keypoint[m, t, v], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(turned.keypoint, axis=-1), np.linalg.norm(annotation.keypoint, axis=-1),
                               rtol=1e-5)
    assert make("RandomRotation", argument=False)(annotation, rng()).keypoint is annotation.keypoint


def test_turn_about_one_axis():
    quarter = np.pi / 2
    np.testing.assert_allclose(rotation_matrix(quarter, 0, 0) @ [0, 0, 1], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(rotation_matrix(0, quarter, 0) @ [1, 0, 0], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(rotation_matrix(0, 0, quarter) @ [0, 1, 0], [1, 0, 0], atol=1e-12)


def test_pre_normalize_2d():
    corners = np.array([[0, 0], [200, 100], [100, 50]], "float16").reshape(1, 1, 3, 2)
    normed = make("PreNormalize2D")(Annotation(corners, img_shape=(100, 200)), rng()).keypoint
    np.testing.assert_array_equal(normed[0, 0], [[-1, -1], [1, 1], [0, 0]])
    assert normed.dtype == np.float32
    given_ = make("PreNormalize2D", img_shape=[50, 100])(Annotation(corners), rng()).keypoint
    np.testing.assert_array_equal(given_[0, 0], [[-1, -1], [3, 3], [1, 1]])


@settings(max_examples=50, deadline=None)
@given(st.tuples(*[st.floats(-2, 2)] * 3), st.sampled_from([(0, 0, 1), (1, 0, 0), (0, 1, 0)]))
def test_rotation_between(vector, target):
    vector, matrix = np.array(vector), rotation_between(np.array(vector), target)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(matrix) > 0.99
    if np.abs(np.cross(vector, target)).sum() > 1e-3:
        np.testing.assert_allclose(matrix @ vector, np.linalg.norm(vector) * np.array(target), atol=1e-5)


def test_pre_normalize_3d():
    annotation = sample(2, 8, 25, 3, score=True)
    annotation.keypoint[0, [1, 4, 6]] = 0
    annotation.keypoint[1, 2] = 0
    annotation.keypoint[1, 3, 5] = 0
    result = make("PreNormalize3D")(annotation, rng())
    kept = [0, 1, 3, 4, 5, 6, 7]  # of the second person, who has more frames and becomes the first
    assert result.keypoint.shape == (2, 7, 25, 3)
    np.testing.assert_array_equal(result.keypoint_score, annotation.keypoint_score[::-1][:, kept])
    np.testing.assert_allclose(result.keypoint[0, 0, 1], 0, atol=1e-6)
    assert not result.keypoint[0, 2, 5].any() and not result.keypoint[1, 1].any()
    spine = result.keypoint[0, 0, 1] - result.keypoint[0, 0, 0]
    shoulders = result.keypoint[0, 0, 8] - result.keypoint[0, 0, 4]
    np.testing.assert_allclose(shoulders[1:], 0, atol=1e-5)
    assert shoulders[0] > 0 and np.linalg.norm(spine) > 0
    # Turning and moving keep all distances.
    before, after = annotation.keypoint[1, 5], result.keypoint[0, 4]
    np.testing.assert_allclose(np.linalg.norm(after - after[0], axis=1), np.linalg.norm(before - before[0], axis=1),
                               atol=1e-5)


def test_pre_normalize_3d_only_spine_upright():
    annotation = sample(1, 3, 25)
    annotation.keypoint[0, 0, 8] = annotation.keypoint[0, 0, 4] + [2, 0, 0]
    annotation.keypoint[0, 0, 1] = annotation.keypoint[0, 0, 0] + [0, 1, 0]
    result = make("PreNormalize3D")(annotation, rng()).keypoint
    np.testing.assert_allclose(result[0, 0, 1] - result[0, 0, 0], [0, 0, 1], atol=1e-6)


@pytest.mark.parametrize(("joints", "layout", "center"), [(25, None, 1), (20, None, 19), (20, "kinect20", 1),
                                                          (25, "ntu-rgb+d", 20)])
def test_pre_normalize_3d_center(joints, layout, center):
    annotation = sample(1, 4, joints)
    result = make("PreNormalize3D", align_spine=False, layout=layout)(annotation, rng())
    np.testing.assert_allclose(result.keypoint, annotation.keypoint - annotation.keypoint[0, 0, center], atol=1e-6)


@pytest.mark.parametrize("dataset", ["nturgb+d", "coco"])
def test_features_in_words(dataset):
    scored, pairs = dataset == "coco", COCO_PAIRS if dataset == "coco" else [(a - 1, b - 1) for a, b in NTU_PAIRS]
    annotation = sample(2, 4, len(pairs), 2 if scored else 3, score=scored)
    joint = annotation.keypoint if not scored else np.concatenate(
        [annotation.keypoint, annotation.keypoint_score[..., None]], -1)
    bone = np.zeros_like(joint)
    for child, parent in pairs:
        bone[:, :, child] = joint[:, :, child] - joint[:, :, parent]
        if scored:
            bone[:, :, child, 2] = (joint[:, :, child, 2] + joint[:, :, parent, 2]) / 2
    motions = []
    for feature in (joint, bone):
        motion = np.zeros_like(feature)
        for t in range(3):
            motion[:, t] = feature[:, t + 1] - feature[:, t]
            if scored:
                motion[:, t, :, 2] = (feature[:, t + 1, :, 2] + feature[:, t, :, 2]) / 2
        motions.append(motion)
    expected = dict(zip(("j", "b", "jm", "bm"), (joint, bone, *motions), strict=True))
    for feat, wanted in expected.items():
        found = make("GenSkeFeat", dataset=dataset, feats=[feat])(annotation, rng())
        np.testing.assert_allclose(found.keypoint, wanted, atol=1e-6)
        assert found.keypoint_score is None
    together = make("GenSkeFeat", dataset=dataset, feats=["bm", "j"])(annotation, rng()).keypoint
    np.testing.assert_allclose(together, np.concatenate([expected["bm"], joint], -1), atol=1e-6)


def test_features_of_ones_own_layout():
    layout = {"name": "mine", "joints": 3, "bones": [[0, 1], [1, 2]], "center": 1}
    annotation = sample(1, 2, 3, 3)
    found = make("GenSkeFeat", dataset=layout, feats=["b"])(annotation, rng()).keypoint
    np.testing.assert_array_equal(found[0, 0, 0], annotation.keypoint[0, 0, 0] - annotation.keypoint[0, 0, 1])
    assert not found[:, :, 1].any()


@pytest.mark.parametrize(("bone", "motion"), [(True, False), (False, True), (True, True), (False, False)])
def test_modality(bone, motion):
    annotation = sample(2, 5, 25, 3)
    data = annotation.data
    expected = data.copy()
    if bone:
        for v1, v2 in NTU_PAIRS:
            expected[:, :, v1 - 1] = data[:, :, v1 - 1] - data[:, :, v2 - 1]
    if motion:
        expected[:, :-1] = expected[:, 1:] - expected[:, :-1]
        expected[:, -1] = 0
    step = make("SketeonModalityTransform", bone=bone, motion=motion, joint=False, graph="ntu_rgb_d")
    np.testing.assert_array_equal(step(annotation, rng()).data, expected)
    as_is = make("SketeonModalityTransform", bone=bone, motion=motion)(annotation, rng())
    np.testing.assert_array_equal(as_is.data, data)


# Forms.


def test_format_gcn_input():
    annotation = sample(1, 6, 4, 2, score=True, num_clips=3)
    array = make("FormatGCNInput", num_person=2)(annotation, rng()).array
    assert array.shape == (3, 2, 2, 4, 3) and array.flags.c_contiguous
    for clip, t in ((0, 0), (1, 1), (2, 0)):
        np.testing.assert_array_equal(array[clip, 0, t, :, :2], annotation.keypoint[0, 2 * clip + t])
        np.testing.assert_array_equal(array[clip, 0, t, :, 2], annotation.keypoint_score[0, 2 * clip + t])
    assert not array[:, 1].any()
    looped = make("FormatGCNInput", num_person=3, mode="loop")(annotation, rng()).array
    np.testing.assert_array_equal(looped[:, 2], looped[:, 0])
    three = sample(3, 6, 4, 2)
    np.testing.assert_array_equal(make("FormatGCNInput")(three, rng()).array[0], three.keypoint[:2])
    two = make("FormatGCNInput", num_person=3, mode="loop")(sample(2, 6, 4, 2), rng()).array
    assert not two[:, 2].any()


def test_format_persons():
    annotation = sample(2, 3, 4, 2, score=True)
    more, fewer = (make("FormatPersons", num_person=n)(annotation, rng()) for n in (3, 1))
    assert more.data.shape == (2, 3, 4, 3) and more.keypoint_score.shape == (3, 3, 4)
    np.testing.assert_array_equal(more.keypoint[:2], annotation.keypoint)
    assert not more.keypoint[2].any()
    np.testing.assert_array_equal(fewer.keypoint, annotation.keypoint[:1])


# Wrong input.

UNFIT = [
    ("GenSkeFeat", {"dataset": "coco"}, sample(), "25 joints.*has 17"),
    ("GenSkeFeat", {"dataset": "nturgb+d"}, sample(score=True), "scores and 3 coordinates"),
    ("SketeonModalityTransform", {"bone": True, "motion": False, "joint": False}, sample(joints=17),
     "17 joints.*has 25"),
    ("SkeletonNorm", {}, sample(joints=8), "needs joint 8"),
    ("SkeletonNorm", {"axis": 3}, sample(channels=2), "keeps 3 coordinates"),
    ("SkeletonNorm", {"squeeze": True}, sample(persons=2), "one person"),
    ("RandomRotation", {"argument": True}, sample(channels=2), "3D"),
    ("PreNormalize3D", {}, sample(channels=2), "3D"),
    ("PreNormalize3D", {}, sample(joints=5), "needs joint 8"),
    ("PreNormalize3D", {"layout": "kinect20"}, sample(), "25 joints.*has 20"),
    ("PreNormalize3D", {}, Annotation(np.zeros((1, 2, 25, 3)), name="the sample"), "no person"),
    ("SketeonCropSample", {"window_size": 3}, Annotation(np.zeros((1, 2, 25, 3)), name="the sample"), "no person"),
    ("FormatGCNInput", {}, sample(frames=5, num_clips=2), "5 frames"),
]


@pytest.mark.parametrize(("name", "arguments", "annotation", "what"), UNFIT)
def test_unfit_samples_are_told_by_name(name, arguments, annotation, what):
    with pytest.raises(DataError, match=f"the sample: {name}: .*{what}"):
        make(name, **arguments)(annotation, rng())


WRONG = [
    ("AutoPadding", {"window_size": 0}), ("AutoPadding", {"window_size": 5, "random_pad": "no"}),
    ("SkeletonNorm", {"axis": 0}), ("RandomRotation", {"argument": "Fasle"}), ("RandomRotation", {}),
    ("RandomRotation", {"argument": True, "theta": -1}),
    ("SketeonCropSample", {"window_size": 64, "crop_model": "left"}),
    ("SketeonCropSample", {"window_size": 64, "p_interval": [0.9, 0.5]}), ("UniformSampleFrames", {"clip_len": True}),
    ("SketeonCropSample", {"window_size": 64, "p_interval": []}), ("UniformSampleFrames", {"clip_len": -3}),
    ("SketeonCropSample", {"window_size": 64, "p_interval": [0]}),
    ("UniformSampleFrames", {"clip_len": 3, "seed": -1}),
    ("SketeonModalityTransform", {"bone": True, "motion": True, "graph": "ntu"}), ("GenSkeFeat", {"feats": ["x"]}),
    ("GenSkeFeat", {"feats": []}), ("GenSkeFeat", {"dataset": "cocoo"}), ("GenSkeFeat", {"axis": 7}),
    ("PreNormalize2D", {"img_shape": 5}), ("PreNormalize3D", {"zaxis": [0]}), ("FormatGCNInput", {"mode": "copy"}),
    ("PreNormalize3D", {"xaxis": [0, "a"]}), ("FormatPersons", {"num_person": 0}), ("Collect", {"keys": ["points"]}),
    ("Collect", {"keys": []}), ("SampleFrame", {"window_size": 1.5}), ("Iden", {"label_expand": 3}),
]


@pytest.mark.parametrize(("name", "arguments"), WRONG)
def test_wrong_arguments(name, arguments):
    with pytest.raises(ConfigError):
        make(name, **arguments)


def test_layout_origins_are_the_published_ones():
    origins = np.arange(25)
    for child, parent in NTU_PAIRS:
        origins[child - 1] = parent - 1
    np.testing.assert_array_equal(get_layout("ntu_rgb_d").parents(), origins)
