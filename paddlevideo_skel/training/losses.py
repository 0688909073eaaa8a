"""Losses: cross-entropy with label smoothing, deep mutual learning, and a distillation's sum of both."""
import paddle
import paddle.nn.functional as F

from ..errors import ConfigError, near_miss
from ..registry import Registry, split_name

LOSSES = Registry("loss")
GROUND_TRUTH = "GroundTruth"
EPSILON = 1e-12


def cross_entropy(logits, label, ls_eps=0.0):
    """Mean cross-entropy of ``logits (N, K)`` and ``label (N,)``; ``ls_eps`` is the share spread over all classes."""
    if not ls_eps:
        return F.cross_entropy(logits, label)
    target = F.label_smooth(F.one_hot(label, logits.shape[-1]), epsilon=ls_eps)
    return F.cross_entropy(logits, target, soft_label=True)


def dml(student, teacher):
    """Deep mutual learning (Zhang et al., CVPR 2018) as PaddleVideo computes it, on two ``(N, K)`` logits.

    Mean over batch and classes of ½·K·[q·log((q+ε)/(p+ε)) + p·log((p+ε)/(q+ε))] with p, q the softmaxes.
    """
    p, q = F.softmax(student, axis=-1), F.softmax(teacher, axis=-1)
    log_ratio = paddle.log(q + EPSILON) - paddle.log(p + EPSILON)
    return 0.5 * ((q - p) * log_ratio).sum(axis=-1).mean()


def mixed(function, logits, label, mix):
    """``function(logits, label)``, or with ``mix = (label_b, lam)`` λ·f(label) + (1−λ)·f(label_b)."""
    if mix is None:
        return function(logits, label)
    label_b, lam = mix
    return lam * function(logits, label) + (1 - lam) * function(logits, label_b)


@LOSSES.register
class DistillationCELoss:
    """Cross-entropy of a named model with the labels."""

    def __init__(self, model_name_pairs, ls_eps=0.0, loss_weight=1.0):
        self.pairs, self.ls_eps, self.loss_weight = as_pairs(model_name_pairs), ls_eps, loss_weight

    def __call__(self, logits, label, mix):
        def ce(y, t):
            return cross_entropy(y, t, self.ls_eps)
        models = [a if b == GROUND_TRUTH else b for a, b in self.pairs]
        return self.loss_weight * sum(mixed(ce, logits[name], label, mix) for name in models)


@LOSSES.register
class DistillationDMLLoss:
    """Deep mutual learning between named models."""

    def __init__(self, model_name_pairs, loss_weight=1.0):
        self.pairs, self.loss_weight = as_pairs(model_name_pairs), loss_weight

    def __call__(self, logits, label, mix):
        return self.loss_weight * sum(dml(logits[a], logits[b]) for a, b in self.pairs)


def as_pairs(value):
    """``[a, b]`` or ``[[a, b], [c, d]]`` as a list of pairs."""
    pairs = value if isinstance(value, list) and value and isinstance(value[0], list) else [value]
    if not all(isinstance(p, list) and len(p) == 2 and all(isinstance(n, str) for n in p) for p in pairs):
        raise ValueError(f"model_name_pairs is {value!r}, expected a pair such as [Student, Teacher]")
    return [tuple(pair) for pair in pairs]


def build_losses(section, recognizer, where):
    """The losses of a distillation's ``loss: {Train: […], Val: […]}`` as ``{"Train": f, "Val": f}``.

    Each ``f(logits, label, mix)`` takes the dict of logits.

    Raises:
        ConfigError: a loss or model is unknown, or a model that learns has no loss.
    """
    functions = {}
    for phase in ("Train", "Val"):
        at = f"{where}.{phase}"
        if not isinstance(section.get(phase), list) or not section[phase]:
            raise ConfigError(at, f"found {section.get(phase)!r}, expected a list of losses",
                              near_miss(phase, section) if section else "")
        losses = []
        for i, spec in enumerate(section[phase]):
            name, arguments = split_name(spec, f"{at}.{i}")
            loss = LOSSES.build(name, arguments, f"{at}.{i}")
            with_labels = isinstance(loss, DistillationCELoss)
            for pair in loss.pairs:
                known = [*recognizer.names, GROUND_TRUTH] if with_labels else recognizer.names
                for model in pair:
                    if model not in known:
                        raise ConfigError(f"{at}.{i}.model_name_pairs", f"unknown model {model!r}",
                                          near_miss(model, known))
                if with_labels == (GROUND_TRUTH not in pair):
                    raise ConfigError(f"{at}.{i}.model_name_pairs",
                                      f"found {list(pair)}, expected a model and {GROUND_TRUTH}")
            losses.append(loss)
        functions[phase] = lambda logits, label, mix, losses=losses: sum(f(logits, label, mix) for f in losses)
        if phase == "Train":
            used = {model for loss in losses for pair in loss.pairs for model in pair}
            idle = [n for n in recognizer.names if n not in used and n not in recognizer.frozen]
            if idle:
                raise ConfigError(at, f"no loss trains {', '.join(idle)}",
                                  "Add a loss, or freeze it in freeze_params_list")
    return functions


def recognizer_losses(recognizer, where):
    """``{"Train": f, "Val": f}``, each ``f(logits, label, mix)`` of a recognizer's output, logits or a dict of them."""
    if recognizer.names:
        return build_losses(recognizer.loss, recognizer, where)

    def loss(logits, label, mix):
        return mixed(lambda y, t: cross_entropy(y, t, recognizer.head.ls_eps), logits, label, mix)
    return {"Train": loss, "Val": loss}
