"""Quantise after training → inference in INT8: ``test_ptq_inference_python.sh``.

Lines, as PaddleVideo has them: 4 to 11 the quantiser's arguments, 14 the quantiser, 17 inference, 18 to 24 its
arguments.
"""
import itertools

from . import FOLDER, ROOT
from .chain import Chain
from .host import Host, interpreter
from .params import Params

HEADERS = {1: "ptq_params", 16: "infer_params"}


def run(path):
    """The whole chain; returns the exit status."""
    params = Params(path, HEADERS)
    python = interpreter(params.python)
    chain = Chain(params.model, FOLDER / "output" / params.model / "ptq_infer", "results_python.log")
    script = params.command(14)
    quantise = [python, *script, *(word for line in range(4, 12) for word in params.arguments(line))]
    reason = None if (ROOT / script[0]).is_file() else f"{script[0]} is not in this version"
    host = None if reason else Host(python)
    if reason:
        chain.skip(quantise, reason)
    else:
        chain.run(quantise, "quantise")
    for use, batch in itertools.product(params.options(18), params.options(20)):
        device = "gpu" if use == "True" else "cpu"
        command = [python, *params.command(17), *params.arguments(18, use), *params.arguments(19),
                   *params.arguments(20, batch), *(word for line in range(21, 25) for word in params.arguments(line))]
        why = reason or (host.lacks("gpu") if use == "True" else None)
        if why:
            chain.skip(command, why)
        else:
            chain.run(command, f"python_infer_{device}_batchsize_{batch}")
    return chain.finish()
