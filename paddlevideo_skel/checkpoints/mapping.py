"""The plan of a conversion: a target for every tensor of a checkpoint, and what was found out about the model."""
from dataclasses import dataclass, field

import numpy as np

from ..errors import CheckpointError, shorten_list

MAX_LISTED_TENSORS = 20  # names in a message
NORM = {"weight": "weight", "bias": "bias", "_mean": "running_mean", "_variance": "running_var"}
COUNTER = "num_batches_tracked"


class Plan:
    """Which tensor of a checkpoint becomes which of PaddleVideo's.

    Args:
        state: name → array, under the checkpoint's names.
        body, head: prefixes of its names of the backbone and of the head.
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
        """How many tensors ``source.format(first)``, ``source.format(first + 1)`` … the backbone has without a gap."""
        number = first
        while self.has(source.format(number)):
            number += 1
        return number - first

    def ignore(self, source):
        """Mark a tensor as known, but not converted."""
        self.known.add(self.body + source)

    def put(self, target, source, change=None):
        """Map ``source`` to ``target``, both in the backbone; ``change`` converts the array."""
        self.moves[f"backbone.{target}"] = (self.body + source, change)

    def constant(self, target, array):
        """Set ``target``, which is not in the checkpoint, to ``array``."""
        self.moves[f"backbone.{target}"] = (None, array)

    def conv(self, target, source, bias=True):
        """Move a convolution."""
        for part in ("weight", "bias")[:1 + bias]:
            self.put(f"{target}.{part}", f"{source}.{part}")

    def norm(self, target, source):
        """Move a BatchNorm."""
        for part, theirs in NORM.items():
            self.put(f"{target}.{part}", f"{source}.{theirs}")

    def classifier(self, target, source, transposed=True):
        """Move the head's layer; a linear layer is transposed, a pointwise convolution is not."""
        self.moves[f"head.{target}.weight"] = (f"{self.head}{source}.weight", np.transpose if transposed else None)
        self.moves[f"head.{target}.bias"] = (f"{self.head}{source}.bias", None)

    def apply(self, where, source):
        """The arrays under PaddleVideo's names, float32.

        Raises:
            CheckpointError: listing tensors that are unknown, missing, or not finite floating-point numbers.
        """
        used = {name for name, _ in self.moves.values() if name} | self.known
        extra = [name for name in self.state if name not in used and not name.endswith(COUNTER)]
        missing = [name for name, _ in self.moves.values() if name and name not in self.state]
        problems = [f"{len(names)} {what}: {shorten_list(names, MAX_LISTED_TENSORS)}" for what, names in
                    (("tensors are not in the model", extra), ("tensors of the model are missing", missing)) if names]
        if problems:
            raise CheckpointError(where, f"looks like {source}, but {'; '.join(problems)}",
                                  "Nothing was converted: every tensor must be recognised")
        weights = {}
        for target, (name, change) in self.moves.items():
            array = change if name is None else self.state[name]
            check_numbers(array, name, where)
            if name is not None and change is not None:
                array = change(array)
            weights[target] = np.ascontiguousarray(array, "float32")
        return weights

    def counters(self):
        """The number of PyTorch's batch counters in the checkpoint, which are not weights."""
        return sum(name.endswith(COUNTER) for name in self.state)


@dataclass
class Found:
    """What was found in a checkpoint.

    Attributes:
        source: the model and the project that it comes from, in words.
        plan: how its tensors are mapped.
        backbone, head: the config's arguments, without the layout's.
        joints: V, or None if the checkpoint does not show it.
        graph: ``(K, V, V)``, the adjacency in it, or None; ``learned`` if training changed it.
        layout_key, strategy_key: the backbone's arguments for the skeleton and its adjacency, or None.
        strategy_names: what the backbone calls a strategy, where the name differs.
        style: source of the config's data and training settings: ``paddlevideo`` or ``pyskl``.
        notes: assumptions about what the weights do not show.
        unseen: names of the backbone's arguments that no shape shows.
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
    strategy_names: dict = field(default_factory=dict)
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
        raise CheckpointError(where, f"{name} contains NaN or infinity")
