"""A config that trains a small model on a small generated data set in seconds.

Not in conftest.py: there is more than one of that name, and which one an import finds is a matter of order.
"""
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


def distillation_config(folder):
    """The text of a config with the same data for a CTR-GCN teacher and a CTR-GCN-Lite student, with mixup."""
    text = CONFIG.format(folder=folder)
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
    return text.replace(old, f"{steps}  valid:\n{steps}  test:\n{steps}")


# For tests that end a training and resume it: a small model, dropout, precise BatchNorm, a state within each epoch.
HARD = ["MODEL.backbone.base_channels=8", "MODEL.head.in_channels=16", "MODEL.head.dropout=0.5", "save_every=3",
        "PRECISEBN={preciseBN_interval: 1, num_iters_preciseBN: 2}"]


def run(config, folder, *overrides, **arguments):
    """Train with ``HARD`` in this process."""
    from paddlevideo_skel.config import load_config
    from paddlevideo_skel.training.trainer import TrainOptions, train

    return train(load_config(config, [f"output_dir={folder}", *HARD, *overrides]),
                 TrainOptions(**{"validate": True, "seed": 5, **arguments}))
