"""``paddlevideo-skel deploy-ascend`` and ``tools/deploy_ascend.py``: from a checkpoint to the table of an NPU."""
from ..ascend.atc_command import CHOICES
from ..config import load_config
from . import load_paddle


def add_arguments(parser):
    parser.add_argument("-c", "--config", required=True, metavar="FILE", help="config file")
    parser.add_argument("-p", "--pretrained_params", required=True, metavar="FILE", help="checkpoint")
    parser.add_argument("-o", "--output_path", required=True, metavar="FOLDER",
                        help="folder of all that is made, or to go on in")
    parser.add_argument("--override", action="append", default=[], metavar="A.B=VALUE",
                        help="override a key of the config; may be repeated")
    parser.add_argument("--batch_sizes", default="1,4,8,16,32,64", metavar="N,N",
                        help="an .om each, default %(default)s")
    parser.add_argument("--kind", choices=("minimal", "ordinary"), default="minimal", help="of the export")
    parser.add_argument("--opset", type=int, metavar="N", help="of ONNX, default the one that every ATC takes")
    parser.add_argument("--soc_version", metavar="NAME", help="the chip, e.g. Ascend310P3; default: this host's")
    parser.add_argument("--precision_mode_v2", metavar="MODE", help=f"of ATC, whose own default is fp16: "
                        f"{', '.join(CHOICES['precision_mode_v2'])}")
    parser.add_argument("--precision_mode", metavar="MODE", help="for CANN 6 and older")
    parser.add_argument("--set_env", metavar="FILE", help="CANN's set_env.sh")
    parser.add_argument("--device_id", type=int, default=0, metavar="N", help="of the NPU, default 0")
    parser.add_argument("--num_workers", type=int, default=2, metavar="N", help="processes that make the .bin files")


def run(args):
    from ..ascend import deploy
    from ..ascend.atc_command import Options

    config, sizes = load_config(args.config, args.override), deploy.check_batch_sizes(args.batch_sizes)
    options = Options(soc_version=args.soc_version, precision_mode_v2=args.precision_mode_v2,
                      precision_mode=args.precision_mode)
    load_paddle()
    report = deploy.deploy(config, args.pretrained_params, args.output_path, sizes, options, args.kind, args.opset,
                             args.set_env, args.device_id, args.num_workers)
    print("\n".join(deploy.lines_of(report)))
    return deploy.status_of(report)
