"""``paddlevideo-skel export``, ``tools/export_model.py`` and ``tools/minimal_export_model.py``."""
from ..config import load_config
from . import load_paddle


def add_arguments(parser):
    parser.add_argument("-c", "--config", required=True, metavar="FILE", help="config file")
    parser.add_argument("-p", "--pretrained_params", required=True, metavar="FILE", help="checkpoint to export")
    parser.add_argument("-o", "--output_path", default="./inference", metavar="DIR", help="folder for the export")
    parser.add_argument("--save_name", metavar="NAME", help="name of the files; default: the config's model_name")
    parser.add_argument("--override", action="append", default=[], metavar="A.B=VALUE",
                        help="override a key of the config; may be repeated")
    parser.add_argument("--minimal", action="store_true", help="fold BatchNorm and join convolutions: smaller files")
    parser.add_argument("--format", choices=("json", "pdmodel"), default="json",
                        help="Paddle 3's graph file, or Paddle 2's")
    parser.add_argument("--onnx", action="store_true", help="convert to ONNX too")
    parser.add_argument("--opset", type=int, metavar="N", help="ONNX operator set, default 13")


def run(args):
    config = load_config(args.config, args.override)
    load_paddle()
    from ..deploy import export, onnx

    export.export(config, args.pretrained_params, args.output_path, args.save_name,
                  "minimal" if args.minimal else "ordinary", args.format, args.onnx, args.opset or onnx.OPSET)
