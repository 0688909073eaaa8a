"""Choose the device, and train or test in several processes with one device each.

``python -m paddle.distributed.launch`` passes the rank to each process in environment variables. In a single
process, every function here is cheap and has no effect.
"""
import contextlib
import io
import logging
import os
import sys

import paddle

from ..devices import DEVICE_KEYS, find_device
from ..errors import ConfigError, SkelError, UnavailableError
from ..logs import setup_logging

logger = logging.getLogger(__name__)

LAUNCHER = "python -m paddle.distributed.launch"


def rank():
    """This process's number, from 0."""
    return _number("PADDLE_TRAINER_ID", 0)


def world_size():
    """The number of processes that work together."""
    return _number("PADDLE_TRAINERS_NUM", 1)


def is_main():
    """Whether this process is the one that logs and writes."""
    return rank() == 0


def _number(variable, default):
    text = os.environ.get(variable, str(default))
    if not text.isdecimal():
        raise ConfigError(variable, f"found {text!r}, expected an integer", f"{LAUNCHER} sets it")
    return int(text)


def quiet_others():
    """Show only warnings of all processes but the first."""
    if not is_main():
        setup_logging("WARNING")


def progress_hidden():
    """``tqdm``'s argument ``disable``: only the first process shows its progress, and only on a terminal."""
    return None if is_main() else True


def local_device(kind):
    """``gpu:3`` or ``npu:3`` where the launcher or the user chose one for this process, else ``kind`` itself."""
    chosen = os.environ.get(f"FLAGS_selected_{kind}s", "").split(",")[0].strip()
    return f"{kind}:{chosen}" if chosen else kind


def choose_device(config):
    """Set paddle's device from a config's ``device``, ``use_gpu`` or ``use_npu``, or to the best one available.

    Of several GPUs or NPUs it is the one that the launcher chose for this process, which then joins the others.

    Returns:
        ``cpu``, ``gpu`` or ``npu``.

    Raises:
        ConfigError, UnavailableError: see ``find_device``.
    """
    device = find_device(paddle, **{key: config.get(key) for key in DEVICE_KEYS}, where=config.where)
    local = local_device(device)
    paddle.set_device(local)
    join_processes(device)
    logger.info("Computing on: %s%s", local, f", and {world_size() - 1} more" * (world_size() > 1))
    return device


def join_processes(device):
    """Connect to the other processes: gloo between CPUs, NCCL between GPUs, XCCL between custom devices.

    Args:
        device: ``cpu``, ``gpu`` or ``npu``; already set in paddle.

    Raises:
        ConfigError: the launcher's variables are incomplete.
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
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):  # paddle prints a table of flags that it changed itself
            paddle.distributed.init_parallel_env()
    except Exception:
        sys.stderr.write(stderr.getvalue())
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

    Not ``paddle.DataParallel``, which averages during the backward pass: it silently skips gradients of custom
    layers, and aborts if another process has ended. The time it would hide (summing a few megabytes) is small compared
    with a training step.
    """
    if world_size() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    # In float32: with mixed precision some are in float16, where the sum could overflow.
    flat = paddle.concat([gradient.flatten().astype("float32") for gradient in gradients])
    paddle.distributed.all_reduce(flat)
    for gradient, part in zip(gradients, (flat / world_size()).split([gradient.size for gradient in gradients])):
        paddle.assign(part.reshape(gradient.shape).astype(gradient.dtype), gradient)


def process_mean(*values):
    """Each number's mean over the processes."""
    if world_size() == 1:
        return values
    total = paddle.to_tensor(values, "float32")  # Ascend cannot add up float64
    paddle.distributed.all_reduce(total)
    return tuple((total / world_size()).tolist())


def gather(value):
    """Every process's value, a plain Python or NumPy object, by rank."""
    if world_size() == 1:
        return [value]
    values = []
    paddle.distributed.all_gather_object(values, value)
    return values


def any_of(flag):
    """Whether the flag is set in any process."""
    return any(gather(bool(flag)))


def from_main(work):
    """Call ``work()`` in the first process; all return its result, plain Python or NumPy, or raise its error."""
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
    """Give every process rank 0's running statistics, the ones that are saved."""
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
    """A context that replaces the transport's error when another process has ended by one that says where to look.

    Raises:
        UnavailableError: another process has ended.
    """
    try:
        yield
    except (RuntimeError, OSError) as error:
        if world_size() > 1 and "gloo" in str(error):
            raise UnavailableError(f"process {rank()}",
                                   "lost the connection to another process, which failed or was killed",
                                   "See its workerlog.<number> in the launcher's --log_dir (default: log)") from error
        raise
