"""``paddlevideo-skel convert-weights`` and ``tools/convert_weights.py``: convert a checkpoint of another project."""
import importlib.util

from . import load_paddle


def add_arguments(parser):
    parser.add_argument("checkpoint", metavar="FILE", help="PyTorch's .pth or .pt, .safetensors or .pdparams")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="weights to write")
    parser.add_argument("--format", choices=("pdparams", "safetensors"),
                        help="format of the output; default: by its suffix, else pdparams")
    parser.add_argument("-c", "--config", metavar="FILE", help="config to write; default: next to the output, .yaml")
    parser.add_argument("--layout", metavar="NAME", help="the skeleton, if the checkpoint does not show it: the name "
                        "of a layout, or a YAML file with a LAYOUT section")


def run(args):
    from ..checkpoints.convert import convert_checkpoint

    if importlib.util.find_spec("paddle"):
        load_paddle()
    convert_checkpoint(args.checkpoint, args.output, args.format, args.config, args.layout)
