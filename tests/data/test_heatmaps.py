"""PoseC3D's pre-processing against golden figures of mmaction2 1.2, pixel by pixel, and by its properties."""
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import CONFIGS as CONFIG_FOLDER
from paths import GOLDEN as GOLDEN_FOLDER
from paths import SHARED
from transform_cases import make, rng

from paddlevideo_skel.config import load_config
from paddlevideo_skel.data.annotation import Annotation
from paddlevideo_skel.data.loader import BatchLoader
from paddlevideo_skel.data.pipeline import Pipeline
from paddlevideo_skel.data.readers import read_sample
from paddlevideo_skel.errors import ConfigError, DataError

GOLDEN = np.load(GOLDEN_FOLDER / "heatmap.npz")
CONFIGS = CONFIG_FOLDER / "posec3d"
real_samples = pytest.mark.skipif(not SHARED.joinpath("data").is_dir(), reason="the real samples are not here")
# COCO's joints in the order that they have when left and right are exchanged, and its limbs, from mmaction2's lists.
COCO_MIRRORED = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
LEFT_LIMBS, RIGHT_LIMBS = (0, 2, 4, 5, 6, 10, 11, 12), (1, 3, 7, 8, 9, 13, 14, 15)
COCO_LIMBS = ((0, 1), (0, 2), (1, 3), (2, 4), (0, 5), (5, 7), (7, 9), (0, 6), (6, 8), (8, 10), (5, 11), (11, 13),
              (13, 15), (6, 12), (12, 14), (14, 16), (11, 12))


def person(persons=2, frames=6, joints=17, size=(40, 48), margin=4, seed=0, **fields):
    """Random joints in a picture and a little around it."""
    numbers = rng(seed)
    height, width = size
    keypoint = numbers.uniform(-margin, (width + margin, height + margin), (persons, frames, joints, 2))
    score = numbers.random((persons, frames, joints)).astype("float32")
    return Annotation(keypoint.astype("float32"), score, name="the sample", img_shape=size, **fields)


def maps(annotation, **arguments):
    return make("GeneratePoseTarget", **arguments)(annotation, rng()).array


# Golden figures.


def golden_input():
    return Annotation(GOLDEN["posec3d_keypoint"], GOLDEN["posec3d_keypoint_score"], name="golden", img_shape=(56, 56))


def test_golden_heatmaps():
    array = maps(golden_input())
    assert array.shape == (1, 17, 48, 56, 56) and array.dtype == np.float32 and array.flags.c_contiguous
    # Half precision near 1 is good for 2.5e-4.
    np.testing.assert_allclose(array[0], GOLDEN["posec3d_1clip"], atol=2.5e-4)
    np.testing.assert_allclose(array[0].sum(axis=(2, 3)), GOLDEN["posec3d_1clip_joint_frame_sums"], rtol=1e-6)


def test_golden_heatmaps_mirrored():
    array = maps(golden_input(), double=True)
    assert array.shape == (2, 17, 48, 56, 56)
    np.testing.assert_allclose(array[0], GOLDEN["posec3d_1clip"], atol=2.5e-4)
    np.testing.assert_allclose(array[1], GOLDEN["posec3d_1clip"][COCO_MIRRORED, ..., ::-1], atol=2.5e-4)


@real_samples
def test_golden_test_pipeline_of_the_configs():
    annotation, = read_sample(SHARED / "data" / "example_ucf101_skeleton.pkl")
    for name in ("posec3d_hmdb51", "posec3d"):
        pipeline = Pipeline(load_config(CONFIGS / f"{name}.yaml")["PIPELINE"]["test"])
        array = pipeline(annotation, rng())
        assert array.shape == (20, 17, 48, 56, 56)
        np.testing.assert_allclose(array.sum(axis=(3, 4)), GOLDEN["posec3d_20clip_sums"], atol=2e-6)


@real_samples
def test_golden_keypoints():
    annotation, = read_sample(SHARED / "data" / "example_ucf101_skeleton.pkl")
    for name, arguments in (("UniformSampleFrames", {"clip_len": 48, "test_mode": True}), ("PoseDecode", {}),
                            ("PoseCompact", {"hw_ratio": 1.0, "allow_imgpad": True}), ("Resize", {"scale": (-1, 56)}),
                            ("CenterCrop", {"crop_size": 56})):
        annotation = make(name, **arguments)(annotation, rng())
    np.testing.assert_allclose(annotation.keypoint, GOLDEN["posec3d_keypoint"], atol=1e-5)
    np.testing.assert_array_equal(annotation.keypoint_score, GOLDEN["posec3d_keypoint_score"])
    assert annotation.img_shape == (56, 56)


# Pixel by pixel.


def distance_to_segment(x, y, start, end):
    """In words: nearest to an end if the pixel lies beyond it, else the height of the triangle."""
    to_start, to_end = math.dist((x, y), start), math.dist((x, y), end)
    length = math.dist(start, end)
    if length == 0 or to_end**2 >= to_start**2 + length**2:
        return to_start
    if to_start**2 >= to_end**2 + length**2:
        return to_end
    twice_area = abs((end[0] - start[0]) * (start[1] - y) - (start[0] - x) * (end[1] - start[1]))
    return twice_area / length


def naive_map(size, sigma, segments):
    """One map of several persons' ``(start, end, score of the start, score of the end)``."""
    result = np.zeros(size)
    for start, end, first, second in segments:
        if min(first, second) < 1e-4:
            continue
        height = min(first, second)
        if math.dist(start, end) < 1:
            end, height = start, first
        (left, right), (top, bottom) = (
            (int(min(a, b) - 3 * sigma), int(max(a, b) + 3 * sigma)) for a, b in zip(start, end, strict=True))
        for y in range(size[0]):
            for x in range(size[1]):
                if left <= x <= right and top <= y <= bottom:
                    distance = distance_to_segment(x, y, start, end)
                    result[y, x] = max(result[y, x], height * math.exp(-distance**2 / 2 / sigma**2))
    return result


def naive_maps(annotation, sigma, channels):
    """``(1, C, T, H, W)`` for channels given as pairs of joints, the same one twice for a joint."""
    keypoint, score = annotation.keypoint.astype(float), annotation.keypoint_score.astype(float)
    return np.array([[[naive_map(annotation.img_shape, sigma, [
        (keypoint[m, t, a].tolist(), keypoint[m, t, b].tolist(), score[m, t, a], score[m, t, b])
        for m in range(len(keypoint))]) for t in range(keypoint.shape[1])] for a, b in channels]])


@pytest.mark.parametrize(("sigma", "size"), [(0.6, (14, 20)), (1.7, (21, 11)), (0.25, (9, 9))])
def test_joints_pixel_by_pixel(sigma, size):
    annotation = person(3, 4, 17, size)
    annotation.keypoint_score[:, 1] *= 1e-4
    expected = naive_maps(annotation, sigma, [(joint, joint) for joint in range(17)])
    np.testing.assert_allclose(maps(annotation, sigma=sigma), expected, atol=2e-6)
    assert (expected > 0).sum() > 100


@pytest.mark.parametrize(("sigma", "size"), [(0.6, (14, 20)), (1.7, (21, 11))])
def test_limbs_pixel_by_pixel(sigma, size):
    annotation = person(2, 4, 17, size)
    annotation.keypoint[0, 0, 5:] = annotation.keypoint[0, 0, 5] + rng(1).uniform(0, 0.6, (12, 2))  # short limbs
    annotation.keypoint[1, 1] = annotation.keypoint[1, 1, 0]  # of no length
    annotation.keypoint[0, 2, :, 0] = np.round(annotation.keypoint[0, 2, 0, 0])  # upright
    annotation.keypoint_score[1, 2, ::3] = 0
    expected = naive_maps(annotation, sigma, COCO_LIMBS)
    found = maps(annotation, sigma=sigma, with_kp=False, with_limb=True)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert (expected > 0.01).sum() > 1000
    both = maps(annotation, sigma=sigma, with_limb=True)
    np.testing.assert_array_equal(both[:, :17], maps(annotation, sigma=sigma))
    np.testing.assert_array_equal(both[:, 17:], found)


def test_own_limbs_and_more_pixels_than_are_drawn_at_once():
    annotation = person(1, 30, 3, (70, 90))
    limbs = [[0, 2], [1, 0]]
    found = maps(annotation, sigma=4.0, with_kp=False, with_limb=True, skeletons=limbs)
    frames = [0, 17, 29]
    few = Annotation(annotation.keypoint[:, frames], annotation.keypoint_score[:, frames], img_shape=(70, 90))
    np.testing.assert_allclose(found[:, :, frames], naive_maps(few, 4.0, limbs), atol=2e-6)


def test_scaling_draws_a_smaller_picture():
    annotation = person(1, 3, 17, (41, 30))
    half = Annotation(annotation.keypoint / 2, annotation.keypoint_score, img_shape=(21, 15))
    np.testing.assert_array_equal(maps(annotation, scaling=0.5), maps(half))


# Properties.


def test_persons_share_a_map_by_the_larger_value():
    annotation = person(3, 5, size=(12, 12))
    alone = [maps(Annotation(annotation.keypoint[m:m + 1], annotation.keypoint_score[m:m + 1], img_shape=(12, 12)))
             for m in range(3)]
    np.testing.assert_array_equal(maps(annotation), np.max(alone, axis=0))


def test_scores():
    annotation = person(1, 4, margin=-8)
    ones = Annotation(annotation.keypoint, np.ones_like(annotation.keypoint_score), img_shape=annotation.img_shape)
    without = Annotation(annotation.keypoint, None, img_shape=annotation.img_shape)
    full = maps(ones)
    np.testing.assert_array_equal(maps(annotation, use_score=False), full)
    np.testing.assert_array_equal(maps(without), full)
    np.testing.assert_allclose(maps(annotation), full * annotation.keypoint_score[0].T[None, :, :, None, None],
                               rtol=1e-6)
    assert (full.max(axis=(3, 4)) > math.exp(-0.5 / 2 / 0.36)).all()  # the nearest pixel is at most √½ away
    annotation.keypoint_score[0, 2, 7] = 0
    found = maps(annotation)
    assert not found[0, 7, 2].any() and found[0, 7, 1].any()
    assert not maps(annotation, with_kp=False, with_limb=True)[0, [5, 6], 2].any()  # both limbs at joint 7


def test_a_joint_on_a_pixel_has_its_peak_there():
    keypoint = np.array([[3, 5], [0, 0], [9, 7], [100, 3], [-3, 4]], "float32").reshape(1, 1, 5, 2)
    found = maps(Annotation(keypoint, img_shape=(8, 10)), skeletons=[[0, 1]])[0, :, 0]
    assert found[0, 5, 3] == found[1, 0, 0] == found[2, 7, 9] == 1
    assert found[0, 5, 4] == found[0, 4, 3] == pytest.approx(math.exp(-1 / 0.72), rel=1e-6)
    assert not found[3:].any()


def mirrored_limbs():
    order = np.arange(17)
    order[[*LEFT_LIMBS, *RIGHT_LIMBS]] = RIGHT_LIMBS + LEFT_LIMBS
    return order


@pytest.mark.parametrize(("arguments", "order"), [
    ({}, COCO_MIRRORED), ({"with_kp": False, "with_limb": True}, mirrored_limbs()),
    ({"with_limb": True}, [*COCO_MIRRORED, *(17 + mirrored_limbs())])])
def test_double_adds_mirrored_clips(arguments, order):
    annotation = person(2, 6, num_clips=3)
    single, double = maps(annotation, **arguments), maps(annotation, double=True, **arguments)
    assert single.shape[0] == 3 and double.shape[0] == 6
    np.testing.assert_array_equal(double[:3], single)
    np.testing.assert_array_equal(double[3:], single[:, order, ..., ::-1])


def test_given_sides_are_taken():
    annotation = person(1, 2, 4)
    skeletons = [[0, 1], [1, 2], [1, 3]]
    sides = {"left_kp": [0], "right_kp": [3], "left_limb": [0], "right_limb": [2], "skeletons": skeletons}
    double = maps(annotation, double=True, with_limb=True, **sides)
    np.testing.assert_array_equal(double[1], double[0, [3, 1, 2, 0, 6, 5, 4], ..., ::-1])


def test_a_layout_says_what_mirrors():
    layout = {"joints": 4, "bones": [[0, 1], [0, 2], [0, 3]], "center": 0, "left": [1], "right": [2]}
    double = maps(person(1, 2, 4), double=True, with_limb=True, layout=layout)
    np.testing.assert_array_equal(double[1], double[0, [0, 2, 1, 3, 5, 4, 6], ..., ::-1])


def test_mirrored_heatmaps_are_those_of_mirrored_keypoints():
    annotation = person(1, 20, margin=-4)
    mirrored = annotation.keypoint[:, :, COCO_MIRRORED].copy()
    mirrored[..., 0] = 48 - 1 - mirrored[..., 0]
    of_mirrored = maps(Annotation(mirrored, annotation.keypoint_score[:, :, COCO_MIRRORED], img_shape=(40, 48)))
    # Only the cut at 3 sigma, which depends on the side, differs: exp(-9/2) is what it leaves at most.
    np.testing.assert_allclose(maps(annotation, double=True)[1:], of_mirrored, atol=math.exp(-4.5))


def test_clips_follow_each_other():
    annotation = person(2, 12)
    whole = maps(annotation)
    annotation.num_clips = 3
    clips = maps(annotation)
    assert clips.shape == (3, 17, 4, 40, 48)
    np.testing.assert_array_equal(np.concatenate(list(clips), axis=1), whole[0])


def test_far_away_joints_leave_no_trace_and_no_warning(recwarn):
    annotation = person(1, 2)
    annotation.keypoint[:] = 1e30
    annotation.keypoint[:, 1, ::2] = -3e38
    assert not maps(annotation, with_limb=True, double=True)[:, :, 0].any()
    assert not recwarn.list


# The picture.


def box(low, high, size):
    """Two joints at the corners of a box and one that is missing."""
    return Annotation(np.array([[low, high, (0, 0)]], "float32")[None], img_shape=size)


@pytest.mark.parametrize(("arguments", "corner", "shape"), [
    ({}, (15, 57), (125, 50)),  # 100 by 40 pixels and a quarter more, around (40, 120)
    ({"padding": 0}, (20, 70), (100, 40)),
    ({"hw_ratio": 1.0}, (-22, 57), (125, 124)),  # -22.5 and 102.5, cut towards zero
    ({"hw_ratio": 1.0, "allow_imgpad": False}, (0, 57), (125, 60)),
    ({"hw_ratio": (0.5, 2)}, (8, 57), (125, 63)),
    ({"threshold": 41}, (0, 0), (200, 60)),
])
def test_pose_compact(arguments, corner, shape):
    annotation = box((20, 70), (60, 170), (200, 60))
    result = make("PoseCompact", **arguments)(annotation, rng())
    np.testing.assert_array_equal(result.keypoint[0, 0, :2], annotation.keypoint[0, 0, :2] - corner)
    assert not result.keypoint[0, 0, 2].any()
    assert result.img_shape == shape


@pytest.mark.parametrize(("arguments", "shape"), [
    ({"scale": (-1, 64)}, (64, 85)), ({"scale": [64, -1]}, (64, 85)), ({"scale": 0.5}, (60, 80)),
    ({"scale": (100, 80)}, (75, 100)), ({"scale": (80, 500)}, (80, 107)),
    ({"scale": (48, 48), "keep_ratio": False}, (48, 48)), ({"scale": (30, 20), "keep_ratio": False}, (20, 30)),
])
def test_resize(arguments, shape):
    annotation = person(size=(120, 160))
    result = make("Resize", **arguments)(annotation, rng())
    assert result.img_shape == shape
    np.testing.assert_allclose(result.keypoint, annotation.keypoint * [shape[1] / 160, shape[0] / 120], rtol=1e-5)


@pytest.mark.parametrize(("size", "shift", "shape"), [(20, (14, 10), (20, 20)), ((30, 10), (9, 15), (10, 30)),
                                                      (61, (-7, -11), (61, 61))])
def test_center_crop(size, shift, shape):
    annotation = person(size=(40, 48))
    result = make("CenterCrop_V2", crop_size=size)(annotation, rng())
    np.testing.assert_allclose(result.keypoint, annotation.keypoint - np.array(shift, "float32"), atol=1e-5)
    assert result.img_shape == shape


def test_random_resized_crop():
    annotation, step = person(size=(300, 400)), make("RandomResizedCrop_V2", area_range=(0.56, 1.0))
    areas, aspects, lefts = [], [], []
    for seed in range(300):
        result = step(annotation, rng(seed))
        height, width = result.img_shape
        left, top = (annotation.keypoint - result.keypoint)[0, 0, 0]
        assert 0 <= round(left) <= 400 - width and 0 <= round(top) <= 300 - height
        np.testing.assert_allclose(annotation.keypoint - result.keypoint, np.broadcast_to([left, top], (2, 6, 17, 2)),
                                   atol=1e-3)
        areas.append(height * width / 120000)
        aspects.append(width / height)
        lefts.append(left)
    assert 0.55 < min(areas) < 0.6 and 0.9 < max(areas) <= 1
    assert 0.74 < min(aspects) < 0.85 and 1.25 < max(aspects) < 1.35
    assert len(set(lefts)) > 50


def test_random_resized_crop_takes_the_middle_where_nothing_fits():
    annotation = person(size=(30, 400))
    result = make("RandomResizedCrop", area_range=(0.9, 1.0))(annotation, rng())
    assert result.img_shape == (30, 30)
    np.testing.assert_allclose(result.keypoint, annotation.keypoint - np.array([185, 0], "float32"), atol=1e-4)


def test_flip():
    annotation = person()
    annotation.keypoint[0, 0, 3] = 0
    step = make("Flip_V2", flip_ratio=1)
    once = step(annotation, rng())
    for joint, other in enumerate(COCO_MIRRORED):
        np.testing.assert_array_equal(once.keypoint[1, :, joint, 0], 48 - annotation.keypoint[1, :, other, 0])
        np.testing.assert_array_equal(once.keypoint[..., joint, 1], annotation.keypoint[..., other, 1])
        np.testing.assert_array_equal(once.keypoint_score[..., joint], annotation.keypoint_score[..., other])
    assert not once.keypoint[0, 0, 4].any()
    twice = step(once, rng())
    np.testing.assert_allclose(twice.keypoint, annotation.keypoint, atol=1e-5)
    np.testing.assert_array_equal(twice.keypoint_score, annotation.keypoint_score)


def test_flip_of_other_joints_and_how_often():
    annotation, step = person(joints=3), make("Flip", flip_ratio=0.3, left_kp=[0], right_kp=[2])
    flipped = [step(annotation, rng(seed)).keypoint is not annotation.keypoint for seed in range(500)]
    assert 100 < sum(flipped) < 200
    always = make("Flip", flip_ratio=1, left_kp=[0], right_kp=[2])(annotation, rng()).keypoint
    np.testing.assert_array_equal(always[..., 1], annotation.keypoint[:, :, [2, 1, 0], 1])
    np.testing.assert_array_equal(always[..., 0], 48 - annotation.keypoint[:, :, [2, 1, 0], 0])


@settings(max_examples=30)
@given(st.integers(10, 300), st.integers(10, 300), st.integers(0, 10_000))
def test_the_training_pipeline_always_gives_the_same_shape(height, width, seed):
    pipeline = Pipeline(load_config(CONFIGS / "posec3d_hmdb51.yaml")["PIPELINE"]["train"])
    array = pipeline(person(1, 5, size=(height, width), seed=seed), rng(seed))
    assert array.shape == (1, 17, 48, 48, 48) and 0 <= array.min() <= array.max() <= 1


# In a pipeline.

COMPACT = {"PoseCompact": {"hw_ratio": 1.0}}
TARGET = {"GeneratePoseTarget": {"double": True}}


def steps(*transforms):
    return Pipeline({"decode_sampler": {"name": "UniformSampleFrames", "clip_len": 8}, "transform": list(transforms)})


def test_batches_of_heatmaps():
    class DataSet:
        labels, names = np.array([3, 4, 5]), ["a", "b", "c"]

        def __len__(self):
            return 3

        def __getitem__(self, index):
            return person(1 + index, 9 + index, seed=index)

    pipeline = steps("PoseDecode", COMPACT, {"Resize": {"scale": (16, 16), "keep_ratio": False}}, TARGET,
                     {"FormatShape": {"input_format": "NCTHW_Heatmap"}}, {"Collect": {"keys": ["imgs", "label"]}})
    with BatchLoader(DataSet(), pipeline, 2) as loader:
        first, second = loader.batches(0)
    assert first.array.shape == (2, 2, 17, 8, 16, 16) and second.array.shape == (1, 2, 17, 8, 16, 16)


def test_collapse():
    pipeline = steps("PoseDecode", "GeneratePoseTarget", {"FormatShape": {"input_format": "NCTHW", "collapse": True}})
    assert pipeline(person(), rng()).shape == (17, 8, 40, 48)
    with pytest.raises(DataError, match="FormatShape: collapse needs one clip, got 2"):
        steps("PoseDecode", TARGET, {"FormatShape": {"input_format": "NCTHW", "collapse": True}})(person(), rng())


def test_every_step_leaves_its_input_alone_and_is_repeatable():
    cases = {"PoseCompact": {"threshold": 1}, "Resize": {"scale": (-1, 20)}, "RandomResizedCrop_V2": {},
             "CenterCrop_V2": {"crop_size": 20}, "Flip_V2": {"flip_ratio": 1},
             "GeneratePoseTarget": {"double": True, "with_limb": True}}
    for name, arguments in cases.items():
        step, results = make(name, **arguments), []
        for _ in range(2):
            annotation = person()
            before = annotation.keypoint.copy(), annotation.keypoint_score.copy()
            annotation.keypoint.setflags(write=False)
            annotation.keypoint_score.setflags(write=False)
            results.append(step(annotation, rng(3)))
            np.testing.assert_array_equal(annotation.keypoint, before[0], err_msg=name)
            np.testing.assert_array_equal(annotation.keypoint_score, before[1], err_msg=name)
            assert annotation.array is None and annotation.img_shape == (40, 48) and annotation.num_clips == 1
        for field in ("keypoint", "keypoint_score", "array", "img_shape"):
            np.testing.assert_array_equal(getattr(results[0], field), getattr(results[1], field), err_msg=name)


# Wrong input.


@pytest.mark.parametrize(("transforms", "what"), [
    (["PoseDecode", TARGET, {"Flip_V2": {"flip_ratio": 1}}], "comes after the step that makes the model's array"),
    (["GeneratePoseTarget"], "Put PoseDecode before GeneratePoseTarget"),
    (["PoseDecode", {"FormatShape": {"input_format": "NCTHW"}}], "GeneratePoseTarget before it"),
])
def test_a_wrong_order_is_told(transforms, what):
    with pytest.raises(ConfigError, match=what):
        steps(*transforms)(person(), rng())


PICTURE_STEPS = (("PoseCompact", {}), ("Resize", {"scale": 0.5}), ("RandomResizedCrop_V2", {}),
                 ("CenterCrop_V2", {"crop_size": 5}), ("Flip_V2", {}), ("GeneratePoseTarget", {}))


@pytest.mark.parametrize(("name", "arguments"), PICTURE_STEPS)
def test_unfit_samples_are_told_by_name(name, arguments):
    solid = Annotation(np.ones((1, 2, 17, 3), "float32"), name="the sample", img_shape=(5, 5))
    with pytest.raises(DataError, match=f"the sample: {name}: .*3 coordinates"):
        make(name, **arguments)(solid, rng())
    without = person()
    without.img_shape = None
    with pytest.raises(DataError, match=f"the sample: {name}: .*img_shape"):
        make(name, **arguments)(without, rng())


@pytest.mark.parametrize(("name", "arguments", "annotation", "what"), [
    ("Flip_V2", {}, person(joints=18), "18 joints.*'coco' has 17"),
    ("Flip_V2", {"left_kp": [3], "right_kp": [8]}, person(joints=5), "needs joint 8"),
    ("GeneratePoseTarget", {"double": True}, person(joints=18), "18 joints.*'coco' has 17"),
    ("GeneratePoseTarget", {"with_limb": True}, person(joints=5), "5 joints.*'coco' has 17"),
    ("GeneratePoseTarget", {"with_limb": True, "skeletons": [[0, 9]]}, person(joints=5), "needs joint 9"),
    ("GeneratePoseTarget", {"double": True, "left_kp": [7], "right_kp": [1]}, person(joints=5), "needs joint 7"),
    ("GeneratePoseTarget", {}, person(frames=5, num_clips=2), "5 frames cannot be divided into 2 clips"),
    ("GeneratePoseTarget", {}, person(frames=100, size=(1080, 1920)), "14 GB.*Resize"),
    ("PoseCompact", {"allow_imgpad": False, "threshold": 0}, box((500, 500), (600, 600), (100, 100)), "img_shape"),
])
def test_samples_that_do_not_fit_the_step(name, arguments, annotation, what):
    annotation.name = "the sample"
    with pytest.raises(DataError, match=f"the sample: {name}: .*{what}"):
        make(name, **arguments)(annotation, rng())


def test_a_sample_without_persons_is_refused():
    pipeline = Pipeline(load_config(CONFIGS / "posec3d_hmdb51.yaml")["PIPELINE"]["valid"])
    with pytest.raises(DataError, match="nobody: has no person"):
        pipeline(Annotation(np.zeros((1, 5, 17, 2)), name="nobody", img_shape=(9, 9)), rng())


WRONG = [
    ("PoseCompact", {"padding": -1}), ("PoseCompact", {"hw_ratio": (2, 1)}), ("PoseCompact", {"hw_ratio": "1"}),
    ("PoseCompact", {"allow_imgpad": "no"}), ("PoseCompact", {"threshold": -5}), ("Resize", {}),
    ("Resize", {"scale": 0}), ("Resize", {"scale": (-1, -1)}), ("Resize", {"scale": (-1, 5), "keep_ratio": False}),
    ("Resize", {"scale": 2.0, "keep_ratio": False}), ("Resize", {"scale": (1, 2, 3)}), ("Resize", {"scale": "(5)"}),
    ("Resize", {"scale": 1.0, "lazy": True}), ("Resize", {"scale": 1.0, "interpolation": "best"}),
    ("RandomResizedCrop_V2", {"area_range": (0, 1)}), ("RandomResizedCrop_V2", {"area_range": 0.5}),
    ("RandomResizedCrop_V2", {"area_range": (0.5, 2)}), ("RandomResizedCrop_V2", {"aspect_ratio_range": (2, 1)}),
    ("RandomResizedCrop", {"target_size": 224}), ("CenterCrop_V2", {"crop_size": 0}),
    ("CenterCrop_V2", {"crop_size": (1, 2, 3)}), ("CenterCrop_V2", {"crop_size": 5.5}),
    ("CenterCrop", {"crop_size": 5, "lazy": True}), ("Flip_V2", {"flip_ratio": 2}),
    ("Flip_V2", {"direction": "vertical"}), ("Flip_V2", {"flip_label_map": {1: 2}}), ("Flip_V2", {"left_kp": [1]}),
    ("Flip_V2", {"left_kp": [1], "right_kp": []}), ("Flip_V2", {"left_kp": [1, 1], "right_kp": [2, 3]}),
    ("Flip_V2", {"left_kp": [1], "right_kp": [-1]}),
    ("Flip", {"layout": "cocoo"}), ("GeneratePoseTarget", {"sigma": 0}), ("GeneratePoseTarget", {"use_score": 1}),
    ("GeneratePoseTarget", {"with_kp": False}), ("GeneratePoseTarget", {"with_limb": True, "skeletons": [[0, 0]]}),
    ("GeneratePoseTarget", {"with_limb": True, "skeletons": []}),
    ("GeneratePoseTarget", {"with_limb": True, "skeletons": [[0, 1, 2]]}),
    ("GeneratePoseTarget", {"with_limb": True, "double": True, "skeletons": [[0, 1]]}),
    ("GeneratePoseTarget", {"with_limb": True, "double": True, "left_limb": [0], "right_limb": [99]}),
    ("GeneratePoseTarget", {"with_limb": True, "double": True, "left_limb": [0]}),
    ("GeneratePoseTarget", {"left_kp": [0, 1], "right_kp": [2]}), ("GeneratePoseTarget", {"scaling": 0}),
    ("FormatShape", {}), ("FormatShape", {"input_format": "NCHW"}),
    ("FormatShape", {"input_format": "NCTHW", "collapse": 1}),
]


@pytest.mark.parametrize(("name", "arguments"), WRONG)
def test_wrong_arguments(name, arguments):
    with pytest.raises(ConfigError, match="|".join([*arguments, "needs the argument", "joints", "left_limb"])):
        make(name, **arguments)
