"""``paddlevideo-skel postprocess-bin`` and ``tools/postprocess_bin.py``: accuracy of results. Imports no paddle."""


def add_arguments(parser):
    parser.add_argument("--result_dir", "--infer_results", required=True, metavar="FOLDER",
                        help="folder of results, <name>_0.bin for <name>.bin")
    parser.add_argument("-i", "--input", metavar="BINFOLDER",
                        help="folder of .bin files; default: as recorded in infer-bin's results.json")
    parser.add_argument("--label_path", "--label_file", metavar="FILE",
                        help="labels: text with lines 'file label', or .pkl or .npy in the order of the files")
    parser.add_argument("--num_classes", type=int, metavar="K", help="default: as recorded in either folder")
    parser.add_argument("--average", choices=("scores", "logits", "none"),
                        help="how several rows per sample are combined; default: as recorded in the bin folder")
    parser.add_argument("-o", "--output", "--out", dest="out", metavar="FILE",
                        help="write per-class accuracy, confusion matrix and scores as JSON, as test does")


def run(args):
    from ..inference.bin_results import evaluate

    evaluate(args.result_dir, args.label_path, args.input, args.num_classes, args.average, args.out)
