"""``paddlevideo-skel convert`` and ``tools/paddle2onnx.py``: an export to ONNX, with paddle2onnx's own flags."""
from pathlib import Path

from ..errors import ConfigError


def add_arguments(parser):
    parser.add_argument("--model_dir", metavar="DIR", help="folder of the export")
    parser.add_argument("--model_file", "--model_filename", metavar="FILE",
                        help="graph file of the export (.json or .pdmodel); required if the folder contains several")
    parser.add_argument("--params_file", "--params_filename", metavar="FILE",
                        help="weights of the export, in the same folder as the graph")
    parser.add_argument("-o", "--output", "--save_file", dest="save_file", metavar="FILE",
                        help="ONNX file to write; default: next to the graph")
    parser.add_argument("--opset_version", type=int, default=13, metavar="N", help="ONNX operator set, default 13")
    parser.add_argument("--enable_onnx_checker", metavar="BOOL", help="ignored: the model is always checked")


def run(args):
    from ..export.onnx_convert import convert_to_onnx
    from ..inference.artifact import find_export_files

    if not args.model_dir and not args.model_file:
        raise ConfigError("--model_dir", "is missing", "Add it, or --model_file")
    base = Path(args.model_dir or "")
    params = base / args.params_file if args.params_file else None
    export = find_export_files(base / args.model_file if args.model_file else base, params)
    convert_to_onnx(export, args.opset_version, args.save_file)
