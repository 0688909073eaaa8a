"""A small generated data set, and a config that trains a small model on it in seconds."""
import pytest
from hypothesis import settings

from paddlevideo_skel.data.samples import write_sample_set

# For tests that end a training and resume it: a small model, dropout, precise BatchNorm, a state within each epoch.
HARD = ["MODEL.backbone.base_channels=8", "MODEL.head.in_channels=16", "MODEL.head.dropout=0.5", "save_every=3",
        "PRECISEBN={preciseBN_interval: 1, num_iters_preciseBN: 2}"]

# No test may fail for being slow on a busy machine.
settings.register_profile("project", deadline=None)
settings.load_profile("project")

ACTIONS = ("wave", "squat", "sit_down", "stand_up")

CONFIG = """
MODEL:
  framework: RecognizerGCN
  backbone: {{name: STGCNPlusPlus, layout: ntu-rgb+d, num_person: 1, base_channels: 12, num_stages: 4,
             inflate_stages: [3], down_stages: [3]}}
  head: {{name: STGCNPlusPlusHead, in_channels: 24, num_classes: 4}}
DATASET:
  batch_size: 8
  num_workers: 0
  train: &data {{format: NTUCSSkeletonDataset, file_path: {folder}/ntu_3d.pkl, split: xsub_train}}
  valid: &valid {{<<: *data, split: xsub_val, test_mode: True}}
  test: *valid
PIPELINE:
  train:
    transform: &steps
      - PreNormalize3D:
      - GenSkeFeat: {{dataset: nturgb+d, feats: [j]}}
      - UniformSampleFrames: {{clip_len: 16}}
      - PoseDecode:
      - FormatGCNInput: {{num_person: 1}}
  valid:
    transform: &test
      - PreNormalize3D:
      - GenSkeFeat: {{dataset: nturgb+d, feats: [j]}}
      - UniformSampleFrames: {{clip_len: 16, num_clips: 2, test_mode: True}}
      - PoseDecode:
      - FormatGCNInput: {{num_person: 1}}
  test:
    transform: *test
OPTIMIZER:
  name: Momentum
  momentum: 0.9
  learning_rate: {{name: CustomCosineAnnealingDecay, iter_step: True, learning_rate: 0.05, max_epoch: 2}}
  weight_decay: {{name: L2, value: 5e-4}}
  use_nesterov: True
METRIC: {{name: SkeletonMetric}}
INFERENCE: {{name: STGCN_PlusPlus_Inference_helper, top_k: 2}}
class_names: {folder}/class_names.txt
model_name: small
log_interval: 1
epochs: 2
"""



@pytest.fixture(scope="session")
def sample_set(tmp_path_factory):
    """Folder of generated samples: 4 actions, 12 sequences each, two thirds for training."""
    folder = tmp_path_factory.mktemp("samples")
    write_sample_set(folder, 12, 3, ACTIONS, progress=False)
    return folder


@pytest.fixture
def config_file(sample_set, tmp_path):
    """A config's file; every test its own."""
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG.format(folder=sample_set))
    return path


@pytest.fixture
def distillation_file(sample_set, tmp_path):
    """The same data for CTR-GCN teacher and CTR-GCN-Lite student, with mixup."""
    text = CONFIG.format(folder=sample_set)
    head = "{name: CTRGCNHead, in_channels: 16, num_classes: 4}"
    backbone = "{{name: {}, graph: ntu_rgb_d, num_person: 1, base_channel: 16}}"
    model = f"""MODEL:
  framework: RecognizerDistillation
  freeze_params_list: [True, False]
  models:
    - Teacher: {{backbone: {backbone.format("CTRGCN")}, head: {head}}}
    - Student: {{backbone: {backbone.format("CTRGCNLite")}, head: {head}}}
  loss:
    Train:
      - {{name: DistillationCELoss, model_name_pairs: [Student, GroundTruth]}}
      - {{name: DistillationDMLLoss, model_name_pairs: [Student, Teacher]}}
    Val:
      - {{name: DistillationCELoss, model_name_pairs: [Student, GroundTruth]}}
MIX: {{name: Mixup, alpha: 0.5}}
"""
    start, end = text.index("MODEL:"), text.index("DATASET:")
    text = text[:start] + model + text[end:]
    old = text[text.index("    transform: &steps"):text.index("OPTIMIZER:")]
    steps = """    sample:
      - PreNormalize3D:
      - FormatPersons: {num_person: 1}
      - SketeonCropSample: {window_size: 16, p_interval: [0.95]}
"""
    text = text.replace(old, f"{steps}  valid:\n{steps}  test:\n{steps}")
    path = tmp_path / "distillation.yaml"
    path.write_text(text)
    return path


@pytest.fixture(scope="session")
def shared_config(sample_set, tmp_path_factory):
    """A config's file for tests that change nothing in it."""
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    path.write_text(CONFIG.format(folder=sample_set))
    return path


@pytest.fixture(scope="session")
def hatchery():
    """Makes training processes."""
    from hatchery import Hatchery

    with Hatchery() as made:
        yield made


@pytest.fixture(scope="session")
def unbroken(hatchery, shared_config, tmp_path_factory):
    """The folder of a run with ``HARD`` that nothing stopped."""
    folder = tmp_path_factory.mktemp("unbroken") / "out"
    status, output = hatchery.run(shared_config, folder, "--validate", overrides=HARD)
    assert status == 0, output
    return folder
