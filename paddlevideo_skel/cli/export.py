"""``paddlevideo-skel export``, ``tools/export_model.py`` and ``tools/minimal_export_model.py``."""
from ..config import load_config
from ..errors import ConfigError
from . import load_paddle
from .parser import add_checkpoint, add_config


def add_arguments(parser):
    add_config(parser)
    add_checkpoint(parser, "checkpoint to export")
    parser.add_argument("-o", "--output", "--output_path", dest="output_path", default="./inference", metavar="DIR",
                        help="folder for the export, default ./inference")
    parser.add_argument("--save_name", metavar="NAME", help="name of the files; default: the config's model_name")
    parser.add_argument("--minimal", action="store_true", help="fold BatchNorm and merge convolutions: smaller files")
    parser.add_argument("--format", choices=("json", "pdmodel"),
                        help="graph file of Paddle 3 (the default) or of Paddle 2")
    parser.add_argument("--onnx", action="store_true", help="also convert to ONNX")
    parser.add_argument("--pphuman", action="store_true",
                        help="for PaddleDetection's PP-Human: model.pdmodel, model.pdiparams and infer_cfg.yml")
    parser.add_argument("--opset", type=int, metavar="N", help="ONNX operator set, default 13")


def run(args):
    config = load_config(args.config, args.override)
    load_paddle()
    from ..export.exporter import DEFAULT_OPSET, export_checkpoint
    from ..export.pphuman import PPHUMAN_NAME, export_pphuman

    kind, opset = "minimal" if args.minimal else "ordinary", args.opset or DEFAULT_OPSET
    if args.pphuman:
        for flag, value, fixed in (("--save_name", args.save_name, PPHUMAN_NAME), ("--format", args.format, "pdmodel")):
            if value not in (None, fixed):
                raise ConfigError(flag, f"is {value!r}, but PP-Human reads {fixed!r}", f"Omit {flag}")
        export_pphuman(config, args.pretrained_params, args.output_path, kind, args.onnx, opset)
    else:
        export_checkpoint(config, args.pretrained_params, args.output_path, args.save_name, kind,
                          args.format or "json", args.onnx, opset)
