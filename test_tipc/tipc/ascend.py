"""Export → ONNX of fixed batches → atc → .om, and inference over a folder of .bin files: ``test_ascend.sh``.

Lines: 4 export, 5 its weights, 6 ONNX, 7 batch sizes, 8 atc, 9 chip, 10 precision, 11 pre-processing, 12 inference, 13
accuracy. ONNX Runtime runs the ONNX models on any host; rows that need a missing CANN or NPU are skipped.
"""
import shutil

from paddlevideo_skel.ascend.atc import find_atc
from paddlevideo_skel.errors import ToolMissingError

from . import FOLDER
from .chain import PASSED, Chain, shown
from .host import Host, interpreter
from .needs import data_needs, provide, weights_need
from .params import Params

HEADERS = {1: "ascend_params"}
MODE = "ascend_infer"
NAME = "inference"


def prepare(path):
    """What the chain reads: weights and a test set."""
    params = Params(path, HEADERS)
    data = [word.replace("--override", "-o") for word in params.command(11)]
    provide([weights_need(params.value(5), params.command(4)), *data_needs(data, ["test"], own=False)])
    return 0


def lacks_atc():
    """Why atc cannot be called, or None."""
    try:
        find_atc()
    except ToolMissingError as error:
        return f"{error.where} {error.problem}"
    return None


def run(path):
    """The whole chain; returns the exit status."""
    params = Params(path, HEADERS)
    python = interpreter(params.python)
    host = Host(python)
    folder = FOLDER / "output" / params.model / MODE
    for part in ("model", "om", "data", "results"):
        shutil.rmtree(folder / part, ignore_errors=True)  # the tools would resume an older run
    chain = Chain(params.model, folder, "results_ascend.log")
    model, om, data = (shown(folder / part) for part in ("model", "om", "data"))
    batches = params.options(7)

    def step(line, log, *arguments, reason=None):
        command = [python, *params.command(line), *arguments]
        return chain.skip(command, reason) if reason else chain.run(command, log)

    def answer(runtime, batch, file, reason):
        out = shown(folder / "results" / f"{runtime}_bs{batch}")
        step(12, f"infer_{runtime}_bs{batch}", "--model", file, "--runtime", runtime, "--input", data, "--output", out,
             reason=reason)
        step(13, f"accuracy_{runtime}_bs{batch}", "--result_dir", out, reason=reason)

    no_converter = host.lacks_package("paddle2onnx", "onnxruntime")
    made = step(4, "export", *params.arguments(5), "-o", model, "--save_name", NAME).status == PASSED
    step(6, "export_onnx", model, "-o", model, "--batch", ",".join(batches), reason=no_converter)
    step(11, "preprocess_bin", "-o", data, *(["--model", f"{model}/{NAME}.json"] if made else []))
    for batch in batches:
        answer("onnxruntime", batch, f"{model}/{NAME}_bs{batch}.onnx", no_converter)
    no_atc = no_converter or lacks_atc()
    no_npu = no_atc or (None if not all(host.lacks_package(name) for name in ("ais_bench", "acl"))
                        else "neither ais_bench nor pyACL is installed")
    chip = params.arguments(9) + params.arguments(10)
    onnx = [f"{model}/{NAME}_bs{batch}.onnx" for batch in batches]
    step(8, "atc_script", *onnx, "-o", om, *chip, "--dry_run", shown(folder / "om" / "atc.sh"), reason=no_converter)
    step(8, "atc", *onnx, "-o", om, *chip, reason=no_atc)
    for batch in batches:
        answer("om", batch, f"{om}/{NAME}_bs{batch}.om", no_npu)
    return chain.finish()
