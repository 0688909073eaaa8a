"""``paddlevideo-skel infer-bin`` and ``tools/infer_bin.py``. Imports no paddle unless the runtime is Paddle's."""
from pathlib import Path

from ..errors import ConfigError
from . import add_switch
from .predict import prepare

PROVIDERS = {"cpu": {"use_gpu": False, "use_npu": False}, "cuda": {"use_gpu": True}, "cann": {"use_npu": True}}
BY_ENDING = {".om": "om", ".onnx": "onnxruntime"}


def add_arguments(parser):
    parser.add_argument("--model", required=True, metavar="EXPORT", help="an export: its folder or a file of it, such "
                        "as name.om or name.onnx")
    parser.add_argument("--input", metavar="FOLDER", help="bin folder of tools/preprocess_bin.py, or any folder of "
                        ".bin files of the right size")
    parser.add_argument("--output", metavar="FOLDER", help="result folder to make, or to continue")
    parser.add_argument("--runtime", choices=("om", "onnxruntime", "paddle"),
                        help="default: by the model's file; of a folder, the fastest known that answers rightly")
    parser.add_argument("-b", "--batch_size", "--batchsize", type=int, metavar="N",
                        help="samples at once; default: as many as the model takes, or 1 if it takes any")
    parser.add_argument("--shard", metavar="I/N", help="answer only every N-th sample, from the I-th on")
    parser.add_argument("--loop", type=int, metavar="N", help="answer a batch N times for the speed, and nothing else")
    parser.add_argument("--provider", choices=PROVIDERS, help="of ONNX Runtime; default: what is there")
    parser.add_argument("--precision", default="fp32", metavar="P",
                        help="fp32, fp16 or bf16: what an .om was compiled for, or what the runtime shall use; decides "
                        "how nearly the self-check must be answered; default fp32")
    add_switch(parser, "use_gpu", "compute on a GPU; default: if there is one", None)
    add_switch(parser, "use_npu", "compute on an NPU; default: if there is one", None)
    parser.add_argument("--device_id", "--device", type=int, default=0, metavar="N",
                        help="which of several NPUs or GPUs, default 0")
    parser.add_argument("--cpu_threads", type=int, metavar="N", help="threads for one answer, default all cores")


def run(args):
    from ..inference.artifact import find_export
    from ..inference.bin_inference import infer_bins, measure_speed
    from ..inference.bins import parse_shard
    from ..inference.runtime import RuntimeOptions
    from ..inference.select import open_named

    if args.loop is None and not (args.input and args.output):
        raise ConfigError("--input, --output", "are both needed", "Give them, or --loop N for the speed alone")
    share = parse_shard(args.shard)
    export = find_export(args.model)
    kind = args.runtime or BY_ENDING.get(Path(args.model).suffix) or "auto"
    options = RuntimeOptions(**devices(args, kind), device_id=args.device_id, precision=args.precision,
                      cpu_threads=args.cpu_threads)
    with open_named(export, kind, options, prepare=prepare) as runtime:
        if args.loop is not None:
            measure_speed(runtime, args.loop, args.batch_size)
        else:
            infer_bins(runtime, args.input, args.output, args.batch_size, share)


def devices(args, kind):
    """``use_gpu`` and ``use_npu``, from these or from ``--provider``."""
    if args.provider is None:
        return {"use_gpu": args.use_gpu, "use_npu": args.use_npu}
    if kind != "onnxruntime":
        raise ConfigError("--provider", f"belongs to ONNX Runtime, the runtime is {kind}",
                          "Give --runtime onnxruntime, or leave --provider away")
    if args.use_gpu is not None or args.use_npu is not None:
        raise ConfigError("--provider", "and --use_gpu or --use_npu were both given", "Give one of them")
    return PROVIDERS[args.provider]
