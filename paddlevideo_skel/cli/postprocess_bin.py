"""``paddlevideo-skel postprocess-bin`` and ``tools/postprocess_bin.py``: accuracy of results. Imports no paddle."""


def add_arguments(parser):
    parser.add_argument("--result_dir", "--infer_results", required=True, metavar="FOLDER",
                        help="folder of answers, <name>_0.bin for <name>.bin")
    parser.add_argument("--input", metavar="BINFOLDER",
                        help="the bin folder; not needed where infer_bin.py's results.json tells it")
    parser.add_argument("--label_path", "--label_file", metavar="FILE",
                        help="labels: a text with a line 'file label', or .pkl or .npy in the order of the files")
    parser.add_argument("--num_classes", type=int, metavar="K", help="default: as the bin folder or the report says")
    parser.add_argument("--average", choices=("scores", "logits", "none"),
                        help="how several rows in an answer become one; default: as the bin folder says")
    parser.add_argument("--out", metavar="FILE",
                        help="write per-class accuracy, confusion matrix and scores as JSON, as main.py --test does")


def run(args):
    from ..inference.bin_results import evaluate

    evaluate(args.result_dir, args.label_path, args.input, args.num_classes, args.average, args.out)
