"""``paddlevideo-skel convert-weights`` and ``tools/convert_weights.py``: a checkpoint of another project for here."""
import importlib.util

from . import load_paddle


def add_arguments(parser):
    parser.add_argument("checkpoint", metavar="FILE", help="PyTorch's .pth or .pt, or .safetensors, or .pdparams")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="weights to write")
    parser.add_argument("--format", choices=("pdparams", "safetensors"),
                        help="of the output; default: by its name, or pdparams")
    parser.add_argument("--config", metavar="FILE", help="config to write; default: beside the output, .yaml")
    parser.add_argument("--layout", metavar="NAME", help="skeleton, where the checkpoint's is not known: a layout's "
                        "name, or a YAML file with a LAYOUT section")


def run(args):
    from ..checkpoints.convert import convert_checkpoint

    if importlib.util.find_spec("paddle"):
        load_paddle()
    convert_checkpoint(args.checkpoint, args.output, args.format, args.config, args.layout)
