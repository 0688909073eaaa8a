"""Mixed precision: float16 with loss scaling on a GPU or NPU; paddle has none on a CPU."""
import contextlib
import logging

import paddle

from ..errors import ConfigError

logger = logging.getLogger(__name__)


class Precision:
    """Runs forward passes and optimizer steps in float32, or mixed at level ``O1`` or ``O2``.

    Args:
        level: None for float32; ``O1`` runs selected operators in float16, ``O2`` almost all, weights included, with
            float32 master weights in the optimizer.
        device: ``cpu``, ``gpu`` or ``npu``. On a CPU paddle's ``auto_cast`` ignores every level (3.3.1): the precision
            is float32, and a warning says so.

    Raises:
        ConfigError: an unknown level.
    """

    def __init__(self, level, device):
        if level not in (None, "O1", "O2"):
            raise ConfigError("--amp_level", f"found {level!r}, expected O1 or O2")
        if level and device == "cpu":
            logger.warning("Paddle has no mixed precision on a CPU: level %s is ignored, training is in float32", level)
            level = None
        self.level, self.dtype = level, "float16"
        self.scaler = paddle.amp.GradScaler(init_loss_scaling=2.0 ** 16) if level else None

    def __str__(self):
        return f"mixed precision {self.level}, {self.dtype}" if self.level else "float32"

    def decorate(self, model, optimizer):
        """The model and its optimizer, prepared for the level."""
        if self.level == "O2":
            return paddle.amp.decorate(models=model, optimizers=optimizer, level="O2", dtype=self.dtype,
                                       master_weight=True, save_dtype="float32")
        return model, optimizer

    def autocast(self):
        """The context of a forward pass."""
        if self.level is None:
            return contextlib.nullcontext()
        return paddle.amp.auto_cast(level=self.level, dtype=self.dtype)

    def step(self, loss, optimizer, after_backward=lambda: None):
        """Backward pass and optimizer step; ``after_backward`` is called in between."""
        if self.scaler is None:
            loss.backward()
            after_backward()
            optimizer.step()
        else:
            self.scaler.scale(loss).backward()
            after_backward()
            self.scaler.step(optimizer)
            self.scaler.update()
        optimizer.clear_grad()
