"""Export → quantization after training → inference in INT8: ``test_ptq_inference_python.sh``.

Lines, as PaddleVideo has them: 4 to 11 the quantizer's arguments, 14 the quantizer, 17 inference, 18 to 24 its
arguments; 25 an export to run first, 26 its weights (a file that ends with line 24 needs an existing export).

The quantizer compares its model with the float32 one and fails if top-1 drops or the self-check fails. A model of an
older run is removed first, so that it cannot be mistaken for the new one.
"""
import itertools
import shutil

from . import FOLDER, ROOT
from .chain import PASSED, Chain
from .host import Host, interpreter
from .needs import data_needs, example_need, provide, weights_need
from .params import Params

HEADERS = {1: "ptq_params", 16: "infer_params"}
MODE = "ptq_infer"


def exports(params):
    """Whether the file has its own export."""
    return len(params.lines) > 25 and params.key(25) == "export"


def quantize_command(params):
    """The quantizer's command."""
    return [*params.command(14), *(word for line in range(4, 12) for word in params.arguments(line))]


def prepare(path):
    """What the chain reads: weights, samples to calibrate with and to test, and one for inference."""
    params = Params(path, HEADERS)
    command = [word.replace("--override", "-o") for word in quantize_command(params)]
    needs = [weights_need(params.value(26), params.command(25))] if exports(params) else []
    provide([*needs, *data_needs(command, ["train", "test"], own=False), example_need(params.value(23), command)])
    return 0


def run(path):
    """The whole chain; returns the exit status."""
    params = Params(path, HEADERS)
    python = interpreter(params.python)
    host = Host(python)
    chain = Chain(params.model, FOLDER / "output" / params.model / MODE, "results_python.log")
    made = (ROOT / params.value(7)).resolve()
    if made.is_relative_to(FOLDER / "output"):
        shutil.rmtree(made, ignore_errors=True)
    rows = []
    if exports(params):
        rows.append(("export", params.command(25) + params.arguments(26) + ["-o", params.value(6)], None))
    rows.append(("quantise", quantize_command(params), host.lacks_package("onnxruntime")))
    for use, batch in itertools.product(params.options(18), params.options(20)):
        device = "gpu" if use == "True" else "cpu"
        words = [*params.command(17), *params.arguments(18, use), *params.arguments(19), *params.arguments(20, batch),
                 *(word for line in range(21, 25) for word in params.arguments(line))]
        reason = host.lacks("gpu") if use == "True" else host.lacks_package("onnxruntime")
        rows.append((f"python_infer_{device}_batchsize_{batch}", words, reason))
    for log, command, reason in rows:
        if reason:
            chain.skip([python, *command], reason)
        elif chain.run([python, *command], log).status != PASSED and log in ("export", "quantise"):
            break  # the other rows have no model
    return chain.finish()
