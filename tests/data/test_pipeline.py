"""Pipelines as configs write them, PaddleVideo's own among them."""
import json

import numpy as np
import pytest
from paths import SHARED

from paddlevideo_skel.config import load_config
from paddlevideo_skel.data.annotation import Annotation
from paddlevideo_skel.data.pipeline import Pipeline, check_pipeline, list_steps
from paddlevideo_skel.data.readers import read_annotations, read_sample
from paddlevideo_skel.errors import ConfigError, DataError

real_samples = pytest.mark.skipif(not SHARED.joinpath("data").is_dir(), reason="the real samples are not here")

CTRGCN = """
PIPELINE:
  train:
    sample:
      - Iden:
      - SketeonCropSample:
          window_size: 64
          p_interval: [0.5, 1]
    transform:
      - RandomRotation:
          argument: True
      - SketeonModalityTransform:
          joint: Fasle
          bone: True
          motion: True
          graph: 'ntu_rgb_d'
"""
STGCNPP = """
PIPELINE:
  test:
    decode_sampler:
      name: "UniformSampleFrames"
      clip_len: 100
      num_clips: 10
      test_mode: True
    transform:
      - PreNormalize2D:
      - GenSkeFeat:
          dataset: 'coco'
          feats: ['j']
      - PoseDecode:
      - FormatGCNInput:
          num_person: 2
      - Collect:
          keys: ['keypoint', 'label' ]
          meta_keys: []
"""
FSD = """
PIPELINE:
  test:
    sample:
      name: "SampleFrame"
      window_size: 350
    transform:
      - SkeletonNorm:
"""
SMALL = """
PIPELINE:
  train:
    transform:
      - PreNormalize3D: {align_spine: False, layout: kinect20}
      - UniformSampleFrames: {clip_len: 32, even: True}
      - PoseDecode
      - FormatGCNInput: {num_person: 1}
"""


def from_yaml(text, tmp_path, split):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    config = load_config(path)
    return Pipeline(config.section(f"PIPELINE.{split}"), config.where(f"PIPELINE.{split}"))


def rng(seed=0):
    return np.random.default_rng(seed)


def skeleton(*shape, name="the sample", **fields):
    return Annotation(rng(1).normal(size=shape).astype("float32"), name=name, **fields)


@pytest.mark.parametrize(("text", "split", "shape", "expected"), [
    (CTRGCN, "train", (2, 80, 25, 3), (3, 64, 25, 2)), (STGCNPP, "test", (1, 103, 17, 2), (10, 2, 100, 17, 2)),
    (FSD, "test", (1, 90, 25, 3), (2, 350, 25, 1)), (SMALL, "train", (1, 40, 20, 3), (1, 1, 32, 20, 3))])
def test_shapes_of_paddlevideo_s_pipelines(tmp_path, text, split, shape, expected):
    pipeline = from_yaml(text, tmp_path, split)
    array = pipeline(skeleton(*shape), rng())
    assert (array.shape, array.dtype, array.flags.c_contiguous) == (expected, np.float32, True)
    again = Pipeline(json.loads(json.dumps(pipeline.spec)), "again")
    np.testing.assert_array_equal(again(skeleton(*shape), rng()), array)


@real_samples
def test_real_samples_end_to_end(tmp_path):
    ntu, = read_sample(SHARED / "data" / "example_ntu_rgbd_skeleton.npy")
    array = from_yaml(CTRGCN, tmp_path, "train")(ntu, rng())
    # Motion of bones: the last frame is 0, and so is the centre joint, its own origin.
    assert array.shape == (3, 64, 25, 2) and not array[:, -1].any() and not array[:, :, 20].any() and array.any()
    for annotation in read_annotations(SHARED / "data" / "mini_ntu60_hrnet.pkl"):
        array = from_yaml(STGCNPP, tmp_path, "test")(annotation, rng())
        assert array.shape == (10, 2, 100, 17, 3)
    assert abs(array[:, 0, ..., :2]).max() <= 1
    pipeline = from_yaml(SMALL, tmp_path, "train")
    for annotation in read_annotations(SHARED / "data" / "utkinect.pkl"):
        assert pipeline(annotation, rng()).shape == (1, 1, 32, 20, 3)


def test_order_of_sections_and_forms_of_steps():
    section = {"transform": "Iden", "sample": ["PoseDecode", {"AutoPadding": {"window_size": 3}}],
               "decode": None, "decode_sampler": {"name": "UniformSampleFrames", "clip_len": 4}}
    names = [name for name, _, _ in list_steps(section, "P")]
    assert names == ["UniformSampleFrames", "PoseDecode", "AutoPadding", "Iden"]
    assert list_steps(section, "P")[2][1:] == ({"window_size": 3}, "P.sample.1")
    assert repr(Pipeline(section)) == "Pipeline(UniformSampleFrames → PoseDecode → AutoPadding → Iden)"


def test_tuples_become_lists_in_the_spec():
    section = {"transform": [{"PreNormalize2D": {"img_shape": (240, 320)}}]}
    spec = json.loads(json.dumps(Pipeline(section).spec))
    assert spec == {"transform": [{"PreNormalize2D": {"img_shape": [240, 320]}}]}


@pytest.mark.parametrize(("section", "what"), [
    ({"transform": [{"SkeletonNrm": None}]}, r"f: P.transform.0: unknown transform 'SkeletonNrm'. Did you mean 'Skel"),
    ({"transform": {"name": "Iden", "label_expnd": True}}, r"label_expnd.*Did you mean 'label_expand'"),
    ({"sample": [{"AutoPadding": None}]}, "needs the argument 'window_size'"),
    ({"sample": [{"AutoPadding": {"window_size": "wide"}}]}, "P.sample.0: AutoPadding: window_size is 'wide'"),
    ({"sample": [{"AutoPadding": 3}]}, "key: value"), ({"smaple": []}, "Did you mean 'sample'"),
    ({"transform": [3]}, "found 3"), ({"transform": [{"a": 1, "b": 2}]}, "expected a transform"),
    ([], "mapping"), (None, "mapping"), ({"transform": [{"name": 3}]}, "name"),
])
def test_wrong_sections(section, what):
    with pytest.raises(ConfigError, match=what):
        check_pipeline(section, "f: P")


def test_samples_that_no_network_can_answer():
    pipeline = Pipeline({"transform": ["Iden"]})
    bad = skeleton(1, 5, 3, 2)
    bad.keypoint[0, 2, 1, 1] = np.nan
    with pytest.raises(DataError, match=r"the sample: found the coordinate nan at person 0, frame 2, joint 1"):
        pipeline(bad, rng())
    with pytest.raises(DataError, match="nobody: has no person"):
        pipeline(Annotation(np.zeros((1, 5, 3, 2)), name="nobody"), rng())
    with pytest.raises(DataError, match="huge: the pipeline produced NaN or infinity"), np.errstate(over="ignore"):
        pipeline(Annotation(np.full((1, 5, 3, 2), 1e300), name="huge"), rng())


@pytest.mark.parametrize(("steps", "what"), [
    (["UniformSampleFrames"], "Add PoseDecode"), (["UniformSampleFrames", "FormatGCNInput"], "Add PoseDecode"),
    (["FormatGCNInput", "PreNormalize2D"], "PreNormalize2D before it"),
    (["ManyClips", "PoseDecode"], "makes 2 clips"),
])
def test_steps_that_do_not_fit_together(steps, what):
    known = {"UniformSampleFrames": {"UniformSampleFrames": {"clip_len": 4}},
             "ManyClips": {"UniformSampleFrames": {"clip_len": 4, "num_clips": 2}}}
    with pytest.raises(ConfigError, match=what):
        Pipeline({"transform": [known.get(step, step) for step in steps]})(skeleton(1, 9, 3, 2), rng())


def test_the_sample_is_not_changed_and_the_array_is_fresh():
    annotation = skeleton(1, 4, 3, 2)
    before = annotation.keypoint.copy()
    array = Pipeline({"transform": ["Iden"]})(annotation, rng())
    np.testing.assert_array_equal(annotation.keypoint, before)
    np.testing.assert_array_equal(array, before.transpose(3, 1, 2, 0))


def test_half_precision_in_single_precision_out():
    stored = np.random.default_rng(0).random((1, 4, 3, 2)).astype("float16")
    array = Pipeline({})(Annotation(stored, name="a"), rng())
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, stored.transpose(3, 1, 2, 0).astype("float32"))
