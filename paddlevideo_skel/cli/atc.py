"""``paddlevideo-skel atc`` and ``tools/atc.py``: ONNX models to ``.om`` for the Ascend NPU."""
import logging

from ..ascend.atc import ATC_TIME_LIMIT, compile_models, raise_failures
from ..ascend.atc_command import ATC_CHOICES, AtcOptions
from ..errors import ConfigError

logger = logging.getLogger(__name__)


def add_arguments(parser):
    parser.passes_on = True
    parser.epilog = "Options after -- are passed to atc unchanged: … -- --modify_mixlist=FILE"
    parser.add_argument("models", nargs="+", metavar="ONNX", help="ONNX models, or folders of them")
    parser.add_argument("-o", "--output", metavar="DIR", help="folder for the .om files; default: next to each model")
    parser.add_argument("--soc_version", metavar="NAME", help="the chip, e.g. Ascend310P3; default: what npu-smi info "
                        "shows")
    parser.add_argument("--batch_sizes", type=sizes, default=(), metavar="N,N", help="batch sizes for a model with a "
                        "dynamic batch; one .om per size")
    # Switches without a value: with an optional value, they would consume the model name that may follow.
    parser.add_argument("--dynamic_batch", action="store_true", help="a single .om for all batch sizes")
    for name, text in (("precision_mode_v2", "precision; ATC's own default is fp16"),
                       ("precision_mode", "precision, for CANN versions without precision_mode_v2, such as 6.0"),
                       ("op_select_implmode", "operator implementations: high precision or high performance"),
                       ("log", "log level of ATC, default error")):
        # ONNX Runtime's CANN provider spells it op_select_impl_mode.
        other = ["--op_select_impl_mode"] if name == "op_select_implmode" else []
        parser.add_argument(f"--{name}", *other, default="error" if name == "log" else None,
                            metavar="MODE", help=f"{text}: {', '.join(ATC_CHOICES[name])}")
    parser.add_argument("--input_fp16", action="store_true", help="the model takes float16 inputs")
    parser.add_argument("--output_type", metavar="TYPE", help="type of the outputs: FP32, FP16, …")
    parser.add_argument("--insert_op_conf", metavar="FILE", help="ATC's own pre-processing of inputs (AIPP)")
    parser.add_argument("--set_env", metavar="FILE", help="CANN's set_env.sh; default: not needed if atc is on "
                        "PATH, else searched in CANN's usual install folders")
    parser.add_argument("--time_limit", type=float, default=ATC_TIME_LIMIT, metavar="S",
                        help=f"seconds per model, default {ATC_TIME_LIMIT}")
    parser.add_argument("--ignore_check", action="store_true", help="warn about operators that ATC may refuse, and "
                        "compile anyway")
    parser.add_argument("--dry_run", metavar="FILE", help="write the commands to a script, to run on a host with ATC")


def sizes(text):
    """``1,4,8`` as numbers."""
    return tuple(int(part) for part in text.split(","))


def run(args):
    if args.time_limit <= 0:
        raise ConfigError("--time_limit", f"found {args.time_limit:g}, expected seconds")
    options = AtcOptions(args.soc_version, args.precision_mode_v2, args.precision_mode, args.op_select_implmode,
                         args.output_type, args.input_fp16, args.insert_op_conf, args.log, tuple(args.passed_on))
    results = compile_models(args.models, options, args.output, args.batch_sizes, args.dynamic_batch, args.dry_run,
                             args.set_env, args.time_limit, args.ignore_check)
    for result in results:
        print(result.describe())
    if args.dry_run:
        logger.info("Wrote %s: run it on a host with CANN's toolkit", args.dry_run)
    raise_failures(results)
