"""``paddlevideo-skel stream`` and ``tools/stream.py``. Imports no paddle unless the runtime is Paddle's."""
from .predict import add_runtime, prepare, runtime_options


def add_arguments(parser):
    parser.add_argument("-i", "--input_file", required=True, metavar="PATH",
                        help="a .npy array or an annotation pickle, read frame by frame; or - for standard input: one "
                        "frame per line as JSON, (persons, joints, coordinates) or {keypoint, keypoint_score}")
    parser.add_argument("--model", required=True, metavar="EXPORT", help="an export: its folder or one of its files")
    parser.add_argument("--window", type=int, default=64, metavar="N", help="window length in frames, default 64")
    parser.add_argument("--every", type=int, default=4, metavar="N", help="frames between two results, default 4")
    parser.add_argument("--smooth", type=float, default=0.0, metavar="S",
                        help="exponential smoothing: scores = S · the last scores + (1 - S) · the window's; default 0")
    parser.add_argument("--mean", type=int, metavar="N", help="instead of --smooth: mean scores of the last N windows")
    parser.add_argument("--early", action="store_true", help="report before the first window is full")
    parser.add_argument("--persons", type=int, metavar="N", help="maximum persons per frame; default: as in the model")
    parser.add_argument("--fps", type=float, metavar="F", help="frame rate of the live sequence; adds the share of "
                        "real time to the report")
    parser.add_argument("--top_k", type=int, metavar="K", help="number of classes to show; default: as in the config")
    parser.add_argument("-o", "--output", "--out", dest="out", metavar="FILE", help="write the results, one JSON "
                        "object per line")
    parser.add_argument("--plot", metavar="PNG", help="plot the scores over time (extra [plot])")
    add_runtime(parser)


def run(args):
    from ..errors import ConfigError
    from ..inference.artifact import find_export
    from ..inference.select import open_named
    from ..inference.stream import StreamingPredictor, stream

    if args.fps is not None and not 0 < args.fps < float("inf"):
        raise ConfigError("--fps", f"found {args.fps}, expected a number > 0")
    with open_named(find_export(args.model), args.runtime, runtime_options(args), prepare=prepare) as runtime:
        predictor = StreamingPredictor(runtime, args.window, args.every, args.smooth, args.mean, args.early,
                                       args.persons, top_k=args.top_k)
        stream(predictor, args.input_file, args.fps, args.out, args.plot)
