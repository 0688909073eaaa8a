"""``paddlevideo-skel deploy-ascend`` and ``tools/deploy_ascend.py``: from a checkpoint to the NPU table."""
from ..ascend.atc_command import ATC_CHOICES
from ..config import load_config
from . import load_paddle
from .parser import add_checkpoint, add_config


def add_arguments(parser):
    add_config(parser)
    add_checkpoint(parser, "checkpoint")
    parser.add_argument("-o", "--output", "--output_path", dest="output_path", required=True, metavar="FOLDER",
                        help="folder for all results; an interrupted run in it is resumed")
    parser.add_argument("--batch_sizes", default="1,4,8,16,32,64", metavar="N,N",
                        help="one .om per batch size; default %(default)s")
    parser.add_argument("--kind", choices=("minimal", "ordinary"), default="minimal", help="kind of export")
    parser.add_argument("--opset", type=int, metavar="N", help="ONNX operator set; default: one that every ATC "
                        "version supports")
    parser.add_argument("--soc_version", metavar="NAME", help="the chip, e.g. Ascend310P3; default: this host's")
    parser.add_argument("--precision_mode_v2", metavar="MODE", help=f"precision; ATC's own default is fp16: "
                        f"{', '.join(ATC_CHOICES['precision_mode_v2'])}")
    parser.add_argument("--precision_mode", metavar="MODE", help="precision, for CANN 6 and older")
    parser.add_argument("--set_env", metavar="FILE", help="CANN's set_env.sh")
    parser.add_argument("--device_id", type=int, default=0, metavar="N", help="device number of the NPU, default 0")
    parser.add_argument("--num_workers", type=int, default=2, metavar="N", help="worker processes that write the .bin "
                        "files, default 2")


def run(args):
    from ..ascend import deploy
    from ..ascend.atc_command import AtcOptions

    config, sizes = load_config(args.config, args.override), deploy.parse_batch_sizes(args.batch_sizes)
    options = AtcOptions(soc_version=args.soc_version, precision_mode_v2=args.precision_mode_v2,
                      precision_mode=args.precision_mode)
    load_paddle()
    report = deploy.deploy(config, args.pretrained_params, args.output_path, sizes, options, args.kind, args.opset,
                             args.set_env, args.device_id, args.num_workers)
    print("\n".join(deploy.format_table(report)))
    return deploy.exit_status(report)
