"""``paddlevideo-skel infer-bin`` and ``tools/infer_bin.py``. Imports no paddle unless the runtime is Paddle's."""
from pathlib import Path

from ..errors import ConfigError
from .parser import add_switch
from .predict import prepare

PROVIDERS = {"cpu": {"use_gpu": False, "use_npu": False}, "cuda": {"use_gpu": True}, "cann": {"use_npu": True}}
BY_ENDING = {".om": "om", ".onnx": "onnxruntime"}


def add_arguments(parser):
    parser.add_argument("--model", required=True, metavar="EXPORT", help="an export: its folder or one of its files, "
                        "such as name.om or name.onnx")
    parser.add_argument("-i", "--input", metavar="FOLDER", help="folder that preprocess-bin wrote, or any folder of "
                        ".bin files with the right size")
    parser.add_argument("-o", "--output", metavar="FOLDER", help="folder for the results; an interrupted run in it is "
                        "resumed")
    parser.add_argument("--runtime", choices=("om", "onnxruntime", "paddle"),
                        help="default: chosen by the model's file; for a folder, the fastest known runtime that "
                        "passes the self-check")
    parser.add_argument("-b", "--batch_size", "--batchsize", type=int, metavar="N",
                        help="samples per batch; default: the model's batch size, or 1 if it accepts any")
    parser.add_argument("--shard", metavar="I/N", help="process only every N-th sample, starting with the I-th")
    parser.add_argument("--loop", type=int, metavar="N", help="only measure speed: run one batch N times")
    parser.add_argument("--provider", choices=PROVIDERS,
                        help="ONNX Runtime's execution provider; default: the best available")
    parser.add_argument("--precision", default="fp32", metavar="P",
                        help="fp32, fp16 or bf16: the precision that an .om was compiled for, or that the runtime "
                        "should use; sets the tolerance of the self-check; default fp32")
    add_switch(parser, "use_gpu", "compute on a GPU; default: if available", None)
    add_switch(parser, "use_npu", "compute on an NPU; default: if available", None)
    parser.add_argument("--device_id", "--device", type=int, default=0, metavar="N",
                        help="device number of the NPU or GPU, default 0")
    parser.add_argument("--cpu_threads", type=int, metavar="N", help="threads per batch; default: all cores")


def run(args):
    from ..inference.artifact import find_export
    from ..inference.bin_inference import infer_bins, measure_speed
    from ..inference.bins import parse_shard
    from ..inference.runtime import RuntimeOptions
    from ..inference.select import open_named

    if args.loop is None and not (args.input and args.output):
        raise ConfigError("--input, --output", "are both required", "Add them, or only measure speed with --loop N")
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
        raise ConfigError("--provider", f"applies only to ONNX Runtime, but the runtime is {kind}",
                          "Add --runtime onnxruntime, or omit --provider")
    if args.use_gpu is not None or args.use_npu is not None:
        raise ConfigError("--provider", "conflicts with --use_gpu and --use_npu", "Omit one of them")
    return PROVIDERS[args.provider]
