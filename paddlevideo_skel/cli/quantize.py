"""``paddlevideo-skel quantize`` and ``tools/quantize.py``: ONNX in 8 bits, or stored in 16. Imports no paddle."""
from pathlib import Path

from ..config import load_config
from ..errors import ConfigError
from .parser import add_config


def add_arguments(parser):
    add_config(parser, "config file: DATASET.train to calibrate with, DATASET.test to compare on")
    parser.add_argument("--model_dir", metavar="DIR", help="folder of the export; must contain an .onnx")
    parser.add_argument("--model_file", metavar="FILE",
                        help="a file of the export; required if the folder contains several")
    parser.add_argument("-o", "--output", "--output_dir", dest="output_dir", metavar="DIR",
                        help="folder for the new export; default: the export's own")
    parser.add_argument("--save_name", metavar="NAME",
                        help="name of the files; default: the export's with _int8 or _fp16")
    parser.add_argument("--float16", action="store_true",
                        help="only store the weights in half precision, without calibration")
    parser.add_argument("--samples", type=int, default=100, metavar="N",
                        help="number of calibration samples, default 100")
    parser.add_argument("--method", default="minmax", metavar="NAME",
                        help="how value ranges are calibrated: minmax (default), entropy or percentile")
    parser.add_argument("--tolerance", type=float, default=0.04, metavar="X",
                        help="maximum difference of the calibration logits from float32 (root mean square, relative "
                        "to their spread) before the first layers stay in float32; default 0.04")
    parser.add_argument("--weight_bits", type=int, metavar="N",
                        help="8, or 7 for x86 CPUs without VNNI (also correct on others); default: what this CPU needs")
    parser.add_argument("--max_drop", type=float, metavar="POINTS",
                        help="maximum drop of top-1 on the test data, in points; default 1, or 0 with --float16")


def run(args):
    from ..export import quantize
    from ..inference.artifact import find_export

    if not args.model_dir and not args.model_file:
        raise ConfigError("--model_dir", "is missing", "Add it, or --model_file")
    config = load_config(args.config, args.override)
    base = Path(args.model_dir or "")
    export = find_export(base / args.model_file if args.model_file else base)
    output = Path(args.output_dir or export.stem.parent)
    if args.float16:
        quantize.store_in_half(config, export, output, args.save_name,
                               0.0 if args.max_drop is None else args.max_drop)
    else:
        quantize.quantize(config, export, output, args.save_name, args.samples, args.method, args.tolerance,
                          1.0 if args.max_drop is None else args.max_drop, args.weight_bits)
