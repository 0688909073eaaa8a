"""``paddlevideo-skel export-onnx`` and ``tools/export_onnx.py``: ONNX models for a device. Imports no paddle."""
from pathlib import Path


def add_arguments(parser):
    parser.add_argument("export", nargs="+", metavar="EXPORT", help="an export: its folder or its graph; further "
                        "exports of the same model, such as the minimal one, are tried if the first cannot be "
                        "converted")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for the models")
    parser.add_argument("--batch", default="dynamic", metavar="N,N",
                        help="batch sizes, one model per size; dynamic (default): one model for any size")
    parser.add_argument("--opset", type=int, metavar="N", help="ONNX operator set, 11 to 17; no other is "
                        "tried. Default: 11, which most ATC versions support, or the next one that converts correctly")
    parser.add_argument("--no_simplify", action="store_true", help="keep the graph as paddle2onnx wrote it")


def run(args):
    from ..export.onnx_export import export_onnx, parse_batches
    from ..inference.artifact import find_export

    batches = parse_batches(args.batch)
    export, *instead = [find_export(path) for path in args.export]
    export_onnx(export, Path(args.output), batches, args.opset, not args.no_simplify, instead)
