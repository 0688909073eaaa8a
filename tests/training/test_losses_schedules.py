import math

import numpy as np
import paddle
import pytest
from golden_fill import golden

from paddlevideo_skel.errors import ConfigError
from paddlevideo_skel.training.losses import build_losses, cross_entropy, dml, mixed
from paddlevideo_skel.training.optim import build_optimizer, build_schedule, check_optimizer

FIGURES = golden("schedules_and_losses")
SECTIONS = {
    "CustomWarmupCosineDecay(": ({"name": "CustomWarmupCosineDecay", "iter_step": True, "warmup_start_lr": 0.005,
                                  "warmup_epochs": 10, "cosine_base_lr": 0.01, "max_epoch": 100}, 4),
    "CustomWarmupAdjustDecay(": ({"name": "CustomWarmupAdjustDecay", "step_base_lr": 0.1, "warmup_epochs": 5,
                                  "lr_decay_rate": 0.1, "boundaries": [35, 55]}, 7),
    "CustomCosineAnnealingDecay(": ({"name": "CustomCosineAnnealingDecay", "iter_step": True, "learning_rate": 0.1,
                                     "max_epoch": 16}, 3),
}


def rates(section, num_iters, steps):
    schedule, _ = build_schedule(section, num_iters, "OPTIMIZER.learning_rate")
    found = []
    for _ in range(steps):
        found.append(schedule.get_lr())
        schedule.step()
    return found


@pytest.mark.parametrize("prefix", SECTIONS)
def test_learning_rates_equal_the_references_step_by_step(prefix):
    expected = next(value for key, value in FIGURES.items() if key.startswith(prefix))
    section, num_iters = SECTIONS[prefix]
    np.testing.assert_allclose(rates(section, num_iters, len(expected)), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("section", "num_iters", "expected"), [
    ({"name": "PiecewiseDecay", "boundaries": [2, 4], "values": [3, 2, 1]}, 9, [3, 3, 2, 2, 1, 1]),
    ({"name": "PiecewiseDecay", "boundaries": [1, 2], "values": [3, 2, 1], "iter_step": True}, 2, [3, 3, 2, 2, 1, 1]),
    ({"name": "MultiStepDecay", "learning_rate": 8, "milestones": [1, 3], "gamma": 0.5}, 9, [8, 4, 4, 2, 2]),
    ({"name": "CosineAnnealingDecay", "learning_rate": 2.0, "T_max": 4}, 9,
     [1 + math.cos(math.pi * i / 4) for i in range(5)]),
    (0.25, 9, [0.25] * 4),
])
def test_other_schedules(section, num_iters, expected):
    np.testing.assert_allclose(rates(section, num_iters, len(expected)), expected, atol=1e-12)


@pytest.mark.parametrize(("section", "words"), [
    ({"name": "CustomCosineAnealingDecay"}, ["Did you mean 'CustomCosineAnnealingDecay'"]),
    ({"name": "MultiStepDecay", "learning_rate": 1}, ["milestones"]),
    ({"name": "MultiStepDecay", "learning_rate": 1, "milestones": [1], "gama": 1}, ["'gamma'"]),
    ({"name": "PiecewiseDecay", "boundaries": [1], "values": [1]}, ["1 values for 1 boundaries"]),
    ({"name": "CustomCosineAnnealingDecay", "learning_rate": 1, "max_epoch": 0}, ["division"]),
    ("0.1x", ["'0.1x'"]),
])
def test_a_wrong_schedule_is_an_error(section, words):
    with pytest.raises(ConfigError) as error:
        build_schedule(section, 3, "OPTIMIZER.learning_rate")
    for word in [*words, "OPTIMIZER.learning_rate"]:
        assert word in str(error.value)


def tensors():
    figures = FIGURES["losses"]
    logits = [paddle.to_tensor(np.array(figures[key], "float32")) for key in ("student", "teacher")]
    return figures, *logits, *(paddle.to_tensor(figures[key]) for key in ("label_a", "label_b"))


def test_losses_equal_the_references():
    figures, student, teacher, label_a, label_b = tensors()
    assert float(dml(student, teacher)) == pytest.approx(figures["dml"], rel=1e-6)
    assert float(cross_entropy(student, label_a)) == pytest.approx(figures["cross_entropy"], rel=1e-6)
    mixup = mixed(cross_entropy, student, label_a, (label_b, figures["lam"]))
    assert float(mixup) == pytest.approx(figures["mixup_cross_entropy"], rel=1e-6)


def test_dml_by_its_formula():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5, 7))
    p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (a, b))
    expected = (0.5 * 7 * (q * np.log((q + 1e-12) / (p + 1e-12)) + p * np.log((p + 1e-12) / (q + 1e-12)))).mean()
    a, b = (paddle.to_tensor(x.astype("float32")) for x in (a, b))
    assert float(dml(a, b)) == pytest.approx(expected, rel=1e-5)
    assert float(dml(b, a)) == pytest.approx(expected, rel=1e-5)
    assert float(dml(a, a)) == pytest.approx(0, abs=1e-6)


def test_label_smoothing_by_its_formula():
    _, student, _, label, _ = tensors()
    log_p = paddle.nn.functional.log_softmax(student).numpy()
    target = np.eye(6)[label.numpy()] * 0.9 + 0.1 / 6
    assert float(cross_entropy(student, label, 0.1)) == pytest.approx(-(target * log_p).sum(1).mean(), rel=1e-5)


class Named:
    def __init__(self, names, frozen=()):
        self.names, self.frozen = list(names), set(frozen)


LOSS = {"Train": [{"name": "DistillationCELoss", "model_name_pairs": ["Student", "GroundTruth"]},
                  {"name": "DistillationDMLLoss", "model_name_pairs": ["Student", "Teacher"]}],
        "Val": [{"name": "DistillationCELoss", "model_name_pairs": ["Student", "GroundTruth"]}]}


def test_a_distillations_losses_are_summed():
    figures, student, teacher, label, label_b = tensors()
    logits = {"Student": student, "Teacher": teacher}
    losses = build_losses(LOSS, Named(logits, ["Teacher"]), "MODEL.loss")
    assert float(losses["Train"](logits, label, None)) == pytest.approx(figures["cross_entropy"] + figures["dml"])
    mixup = float(losses["Train"](logits, label, (label_b, figures["lam"])))
    assert mixup == pytest.approx(figures["mixup_cross_entropy"] + figures["dml"])
    assert float(losses["Val"](logits, label, None)) == pytest.approx(figures["cross_entropy"])


def test_mutual_learning_gives_each_model_its_own_cross_entropy():
    figures, student, teacher, label, _ = tensors()
    loss = {**LOSS, "Train": [{"name": "DistillationCELoss",
                               "model_name_pairs": [["Student", "GroundTruth"], ["Teacher", "GroundTruth"]]},
                              {"name": "DistillationDMLLoss", "model_name_pairs": ["Student", "Teacher"],
                               "loss_weight": 2.0}]}
    logits = {"Student": student, "Teacher": teacher}
    total = build_losses(loss, Named(logits), "MODEL.loss")["Train"](logits, label, None)
    expected = figures["cross_entropy"] + float(cross_entropy(teacher, label)) + 2 * figures["dml"]
    assert float(total) == pytest.approx(expected)


@pytest.mark.parametrize(("loss", "frozen", "words"), [
    ({"Train": LOSS["Train"]}, ["Teacher"], ["MODEL.loss.Val"]),
    ({**LOSS, "Train": LOSS["Val"]}, [], ["Teacher", "no loss trains"]),
    ({**LOSS, "Val": [{"name": "DistillationCELoss", "model_name_pairs": ["Studnet", "GroundTruth"]}]}, ["Teacher"],
     ["'Studnet'", "Did you mean 'Student'"]),
    ({**LOSS, "Val": [{"name": "DistillationCELoss", "model_name_pairs": ["Student", "Teacher"]}]}, ["Teacher"],
     ["GroundTruth"]),
    ({**LOSS, "Val": [{"name": "DistillationCE", "model_name_pairs": ["Student", "GroundTruth"]}]}, ["Teacher"],
     ["Did you mean 'DistillationCELoss'"]),
    ({**LOSS, "Val": [{"name": "DistillationCELoss", "model_name_pairs": "Student"}]}, ["Teacher"], ["a pair"]),
])
def test_wrong_losses_are_errors(loss, frozen, words):
    with pytest.raises(ConfigError) as error:
        build_losses(loss, Named(["Student", "Teacher"], frozen), "MODEL.loss")
    for word in words:
        assert word in str(error.value)


OPTIMIZER = {"name": "Momentum", "momentum": 0.9, "learning_rate": 0.1, "use_nesterov": True,
             "weight_decay": {"name": "L2", "value": 0.01}}


def test_nesterov_momentum_with_decay_by_its_formula():
    weight = paddle.create_parameter([3], "float32")
    weight.set_value(np.array([1.0, -2.0, 0.5], "float32"))
    schedule, _ = build_schedule(0.1, 1, "")
    optimizer = build_optimizer(OPTIMIZER, schedule, [weight])
    w, velocity, slope = weight.numpy().astype("float64"), np.zeros(3), np.array([0.3, 0.1, -0.2])
    for _ in range(3):
        (weight * paddle.to_tensor(slope.astype("float32"))).sum().backward()
        optimizer.step()
        optimizer.clear_grad()
        gradient = slope + 0.01 * w
        velocity = 0.9 * velocity + gradient
        w = w - 0.1 * (gradient + 0.9 * velocity)
    np.testing.assert_allclose(weight.numpy(), w, rtol=1e-5)


@pytest.mark.parametrize(("change", "words"), [
    ({"name": "Momentun"}, ["OPTIMIZER.name", "Did you mean 'Momentum'"]),
    ({"momentum": 1.5}, ["OPTIMIZER.momentum", "1.5"]),
    ({"weight_decay": {"name": "L1", "value": 1}}, ["OPTIMIZER.weight_decay"]),
    ({"weight_decay": {"name": "L2", "value": "x"}}, ["OPTIMIZER.weight_decay.value", "'x'"]),
    ({"grad_clip": {"name": "ClipGradByGlobalNorm", "value": -1}}, ["OPTIMIZER.grad_clip.value"]),
])
def test_a_wrong_optimizer_is_an_error(change, words):
    with pytest.raises(ConfigError) as error:
        check_optimizer({**OPTIMIZER, **change}, "OPTIMIZER")
    for word in words:
        assert word in str(error.value)
