"""What a conversion does with every tensor of a checkpoint, and what it found out about the model."""
from dataclasses import dataclass, field

import numpy as np

from ..errors import CheckpointError, shorten_list

MAX_SHOWN = 20  # names in a message
NORM = {"weight": "weight", "bias": "bias", "_mean": "running_mean", "_variance": "running_var"}
COUNTER = "num_batches_tracked"


class Plan:
    """Which of a checkpoint's tensors becomes which of PaddleVideo's.

    Args:
        state: name → array, under the checkpoint's names.
        body, head: what its names of the backbone and of the head begin with.
    """

    def __init__(self, state, body="", head=""):
        self.state, self.body, self.head = state, body, head
        self.moves, self.known = {}, set()

    def has(self, source):
        """Whether the backbone has the tensor."""
        return self.body + source in self.state

    def shape(self, source):
        """Shape of one of the backbone's tensors.

        Raises:
            KeyError: it is not there.
        """
        return self.state[self.body + source].shape

    def array(self, source):
        """One of the backbone's tensors."""
        return self.state[self.body + source]

    def count(self, source, first=0):
        """How many of ``source.format(first)``, ``source.format(first + 1)`` … the backbone has."""
        number = first
        while self.has(source.format(number)):
            number += 1
        return number - first

    def see(self, source):
        """The tensor is known, and needed for nothing else than what was read from it."""
        self.known.add(self.body + source)

    def put(self, target, source, change=None):
        """``source`` becomes ``target``, both the backbone's, by ``change`` of its numbers."""
        self.moves[f"backbone.{target}"] = (self.body + source, change)

    def constant(self, target, array):
        """``target`` is not in the checkpoint, but follows from it."""
        self.moves[f"backbone.{target}"] = (None, array)

    def conv(self, target, source, bias=True):
        for part in ("weight", "bias")[:1 + bias]:
            self.put(f"{target}.{part}", f"{source}.{part}")

    def norm(self, target, source):
        for part, theirs in NORM.items():
            self.put(f"{target}.{part}", f"{source}.{theirs}")

    def classifier(self, target, source, transposed=True):
        """The head's layer; a linear one is transposed, a pointwise convolution kept."""
        self.moves[f"head.{target}.weight"] = (f"{self.head}{source}.weight", np.transpose if transposed else None)
        self.moves[f"head.{target}.bias"] = (f"{self.head}{source}.bias", None)

    def carry_out(self, where, source):
        """Names and arrays under PaddleVideo's names, float32.

        Raises:
            CheckpointError: listing tensors that the plan does not know, that it misses, or that are no real numbers.
        """
        used = {name for name, _ in self.moves.values() if name} | self.known
        extra = [name for name in self.state if name not in used and not name.endswith(COUNTER)]
        missing = [name for name, _ in self.moves.values() if name and name not in self.state]
        problems = [f"{len(names)} {what}: {shorten_list(names, MAX_SHOWN)}" for what, names in
                    (("tensors are not in the model", extra), ("tensors of the model are missing", missing)) if names]
        if problems:
            raise CheckpointError(where, f"is taken for {source}, but {'; '.join(problems)}",
                                  "Nothing was converted: every tensor must have its place")
        weights = {}
        for target, (name, change) in self.moves.items():
            array = change if name is None else self.state[name]
            check_numbers(array, name, where)
            if name is not None and change is not None:
                array = change(array)
            weights[target] = np.ascontiguousarray(array, "float32")
        return weights

    def counters(self):
        """How many of PyTorch's batch counters the checkpoint has; no weights are in them."""
        return sum(name.endswith(COUNTER) for name in self.state)


@dataclass
class Found:
    """What a checkpoint turned out to be.

    Attributes:
        source: whose form it is, in words.
        plan: what becomes of its tensors.
        backbone, head: the config's arguments, without the layout's.
        joints: V, or None where the checkpoint does not tell.
        graph: ``(K, V, V)``, the adjacency in it, or None; ``learned`` if training changed it.
        layout_key, strategy_key: the backbone's arguments for the skeleton and its adjacency, or None.
        style: whose data and recipe the config starts from: ``paddlevideo`` or ``pyskl``.
        notes: what was assumed, as the weights do not tell.
        unseen: the names of those of the backbone's arguments that no shape tells.
    """
    source: str
    plan: Plan
    backbone: dict
    head: dict
    joints: int = None
    graph: np.ndarray = None
    learned: bool = False
    layout_key: str = None
    strategy_key: str = None
    style: str = "paddlevideo"
    notes: list = field(default_factory=list)
    unseen: tuple = ()

    @property
    def needs(self):
        """The arguments in ``unseen`` with their values."""
        return {name: self.backbone[name] for name in self.unseen}


def check_numbers(array, name, where):
    """Check that an array holds finite floating-point numbers.

    Raises:
        CheckpointError: it does not.
    """
    if not np.issubdtype(array.dtype, np.floating):
        raise CheckpointError(where, f"{name} has the type {array.dtype}, expected floating-point numbers")
    if not np.isfinite(array).all():
        raise CheckpointError(where, f"{name} holds NaN or infinity")
