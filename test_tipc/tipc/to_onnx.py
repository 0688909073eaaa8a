"""Export → paddle2onnx → inference in ONNX Runtime: ``test_paddle2onnx.sh``.

Lines: 4 the converter, 5 to 10 its arguments, 11 inference, 12 config, 13 the model's argument, 14 the sample; 15 an
export to run first, 16 its weights (PaddleVideo's files end with line 14: they need an existing export).
"""
from . import FOLDER
from .chain import FAILED, Chain
from .host import Host, interpreter
from .needs import example_need, provide, weights_need
from .params import NULL, Params

HEADERS = {1: "paddle2onnx_params"}
MODE = "paddle2onnx_infer"


def read(path):
    params = Params(path, HEADERS)
    params.value(14)
    return params


def exports(params):
    """Whether the file has its own export."""
    return len(params.lines) > 15 and params.key(15) == "export"


def prepare(path):
    """What the chain reads: weights and a sample."""
    params = read(path)
    needs = [weights_need(params.value(16), params.command(15))] if exports(params) else []
    command = ["--config", params.value(12)] if params.value(12) not in NULL else params.command(15)
    provide([*needs, example_need(params.value(14), command)])
    return 0


def run(path):
    """The whole chain; returns the exit status."""
    params = read(path)
    python = interpreter(params.python)
    host = Host(python)
    chain = Chain(params.model, FOLDER / "output" / params.model / MODE, "results_paddle2onnx.log")
    rows = []
    if exports(params):
        rows.append(("export", params.command(15) + params.arguments(16) + ["-o", params.value(5)], None))
    # The program of that name does not compare; ours takes the same arguments and does.
    converter = ["tools/paddle2onnx.py"] if params.value(4) == "paddle2onnx" else params.command(4)
    if params.value(4) == "paddle2onnx":
        print("notice: tools/paddle2onnx.py is used instead of paddle2onnx, because it checks the model", flush=True)
    rows.append(("paddle2onnx", converter + [word for line in range(5, 11) for word in params.arguments(line)],
                 host.lacks_package("paddle2onnx", "onnxruntime")))
    rows.append(("paddle2onnx_infer_cpu", params.command(11) + params.arguments(12)
                 + params.arguments(13, params.value(8)) + params.arguments(14), host.lacks_package("onnxruntime")))
    skipped = None
    for log, command, reason in rows:
        skipped = skipped or reason
        if skipped:
            chain.skip([python, *command], skipped)
        elif chain.run([python, *command], log).status == FAILED and log == "paddle2onnx":
            break  # an older .onnx must not be mistaken for the one that failed
    return chain.finish()
