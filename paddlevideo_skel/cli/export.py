"""``paddlevideo-skel export``, ``tools/export_model.py`` and ``tools/minimal_export_model.py``."""
from ..config import load_config
from ..errors import ConfigError
from . import load_paddle


def add_arguments(parser):
    parser.add_argument("-c", "--config", required=True, metavar="FILE", help="config file")
    parser.add_argument("-p", "--pretrained_params", required=True, metavar="FILE", help="checkpoint to export")
    parser.add_argument("-o", "--output_path", default="./inference", metavar="DIR", help="folder for the export")
    parser.add_argument("--save_name", metavar="NAME", help="name of the files; default: the config's model_name")
    parser.add_argument("--override", action="append", default=[], metavar="A.B=VALUE",
                        help="override a key of the config; may be repeated")
    parser.add_argument("--minimal", action="store_true", help="fold BatchNorm and join convolutions: smaller files")
    parser.add_argument("--format", choices=("json", "pdmodel"),
                        help="Paddle 3's graph file (the default), or Paddle 2's")
    parser.add_argument("--onnx", action="store_true", help="convert to ONNX too")
    parser.add_argument("--pphuman", action="store_true",
                        help="for PaddleDetection's PP-Human: model.pdmodel, model.pdiparams and infer_cfg.yml")
    parser.add_argument("--opset", type=int, metavar="N", help="ONNX operator set, default 13")


def run(args):
    config = load_config(args.config, args.override)
    load_paddle()
    from ..export import export, onnx_convert, pphuman

    kind, opset = "minimal" if args.minimal else "ordinary", args.opset or onnx_convert.OPSET
    if args.pphuman:
        for flag, value, fixed in (("--save_name", args.save_name, pphuman.NAME), ("--format", args.format, "pdmodel")):
            if value not in (None, fixed):
                raise ConfigError(flag, f"is {value!r}, but PP-Human reads {fixed!r}", f"Leave out {flag}")
        pphuman.export_pphuman(config, args.pretrained_params, args.output_path, kind, args.onnx, opset)
    else:
        export.export(config, args.pretrained_params, args.output_path, args.save_name, kind, args.format or "json",
                      args.onnx, opset)
