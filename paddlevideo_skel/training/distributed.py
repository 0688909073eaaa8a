"""Several processes that train or test together, a device each, under ``python -m paddle.distributed.launch``.

The launcher tells every process its rank by environment variables. In a process on its own every function here is
cheap and changes nothing.
"""
import contextlib
import io
import os
import sys

import paddle

from ..errors import ConfigError, SkelError, UnavailableError
from ..logs import setup_logging

LAUNCHER = "python -m paddle.distributed.launch"


def rank():
    """This process's number among those that work together, from 0."""
    return _number("PADDLE_TRAINER_ID", 0)


def world_size():
    """How many processes work together."""
    return _number("PADDLE_TRAINERS_NUM", 1)


def is_main():
    """Whether this process is the one that logs and writes."""
    return rank() == 0


def _number(variable, default):
    text = os.environ.get(variable, str(default))
    if not text.isdecimal():
        raise ConfigError(variable, f"is {text!r}, expected a whole number", f"{LAUNCHER} sets it")
    return int(text)


def quiet_others():
    """Of all processes but the first, only warnings are shown."""
    if not is_main():
        setup_logging("WARNING")


def progress_hidden():
    """What ``tqdm`` takes as ``disable``: one process shows its progress, on a terminal."""
    return None if is_main() else True


def local_device(kind):
    """``gpu:3`` or ``npu:3`` where the launcher or the user chose one for this process, else ``kind`` itself."""
    chosen = os.environ.get(f"FLAGS_selected_{kind}s", "").split(",")[0].strip()
    return f"{kind}:{chosen}" if chosen else kind


def join(device):
    """Meet the other processes: gloo between CPUs, NCCL between GPUs, XCCL between custom devices.

    Args:
        device: ``cpu``, ``gpu`` or ``npu``; set in paddle already.
    """
    if world_size() == 1 or paddle.distributed.is_initialized():
        return
    for variable in ("PADDLE_TRAINER_ID", "PADDLE_CURRENT_ENDPOINT"):
        if not os.environ.get(variable):
            raise ConfigError("PADDLE_TRAINERS_NUM", f"is {world_size()}, but {variable} is not set",
                              f"Start with {LAUNCHER}, or unset PADDLE_TRAINERS_NUM")
    if device == "cpu":
        os.environ["PADDLE_DISTRI_BACKEND"] = "gloo"
    elif device == "npu":
        os.environ.setdefault("PADDLE_DISTRI_BACKEND", "xccl")
        os.environ.setdefault("PADDLE_XCCL_BACKEND", device)
    heard = io.StringIO()
    try:
        with contextlib.redirect_stderr(heard):  # a table of flags that paddle itself has changed
            paddle.distributed.init_parallel_env()
    except Exception:
        sys.stderr.write(heard.getvalue())
        raise


@paddle.no_grad()
def share_weights(model):
    """Give every process rank 0's weights."""
    if world_size() == 1:
        return
    for value in model.state_dict().values():
        paddle.distributed.broadcast(value, src=0)


@paddle.no_grad()
def average_gradients(parameters):
    """Between backward pass and update: gradients become their means over the processes, whatever the device.

    Not ``paddle.DataParallel``, which averages during the backward pass: it passes over gradients that custom layers
    give, without a word, and aborts where another process has ended. What it would hide, the time to add up a few
    megabytes, is small beside a step of these models.
    """
    if world_size() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    # In float32: with mixed precision some are in float16, where the sum could overflow.
    flat = paddle.concat([gradient.flatten().astype("float32") for gradient in gradients])
    paddle.distributed.all_reduce(flat)
    for gradient, part in zip(gradients, (flat / world_size()).split([gradient.size for gradient in gradients])):
        paddle.assign(part.reshape(gradient.shape).astype(gradient.dtype), gradient)


def mean(*values):
    """Each number's mean over the processes."""
    if world_size() == 1:
        return values
    total = paddle.to_tensor(values, "float32")  # Ascend adds up no float64
    paddle.distributed.all_reduce(total)
    return tuple((total / world_size()).tolist())


def gather(value):
    """Every process's value, any plain Python or NumPy object, in the order of their ranks."""
    if world_size() == 1:
        return [value]
    values = []
    paddle.distributed.all_gather_object(values, value)
    return values


def any_of(flag):
    """Whether the flag is set in one of the processes."""
    return any(gather(bool(flag)))


def from_main(work):
    """What ``work()`` returns in the first process, plain Python or NumPy objects, in all of them; or its error."""
    if world_size() == 1:
        return work()
    outcome = [None]
    if is_main():
        try:
            outcome = [(work(), None)]
        except SkelError as error:
            outcome = [(None, error)]
    paddle.distributed.broadcast_object_list(outcome, src=0)
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


@paddle.no_grad()
def share_statistics(model):
    """Give every process rank 0's running statistics, which are those that are saved."""
    if world_size() == 1:
        return
    for layer in model.sublayers():
        if isinstance(layer, paddle.nn.layer.norm._BatchNormBase):
            paddle.distributed.broadcast(layer._mean, src=0)
            paddle.distributed.broadcast(layer._variance, src=0)


def barrier():
    """Wait for all processes."""
    if world_size() > 1:
        paddle.distributed.barrier()


@contextlib.contextmanager
def losing_others():
    """Turn the failure to reach another process, which has ended, into an error that says where to look.

    Raises:
        UnavailableError: instead of the transport's own error.
    """
    try:
        yield
    except (RuntimeError, OSError) as error:
        if world_size() > 1 and "gloo" in str(error):
            raise UnavailableError(f"process {rank()}", "has lost another one, which failed or was killed",
                                   "Its workerlog.<number> in the launcher's --log_dir (default log) says "
                                   "why") from error
        raise
