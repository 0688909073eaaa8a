"""``paddlevideo-skel train`` and, with ``--test``, the whole of PaddleVideo's ``main.py``."""
from ..config import load_config
from ..config_schema import DEFAULT_SEED
from ..devices import replace_device
from ..errors import ConfigError
from . import load_paddle
from .parser import add_config, add_path, add_switch


def add_arguments(parser):
    overrides = add_config(parser, short=["-o"])
    profiler = parser.add_argument(*(["-p"] if parser.paddlevideo else []), "--profiler_options", metavar="K=V;K=V",
                                   help='profile training steps, e.g. "batch_range=[10,20];sorted_key=total"')
    add_path(parser, "-w", "--weights", "-p", "--pretrained_params", pairs=profiler, dest="weights", metavar="FILE",
             help="checkpoint to start from, or to test")
    add_path(parser, "-o", "--output", pairs=overrides, metavar="FOLDER",
             help="folder of the run; default: the config's output_dir")
    parser.add_argument("--allow_mismatch", action="store_true", help="with -w, fine-tune for other classes or "
                        "joints: mismatched layers are re-initialised")
    parser.add_argument("--validate", action="store_true", help="validate while training and keep the best checkpoint")
    parser.add_argument("--test", action="store_true", help="test the checkpoint given with -w")
    parser.add_argument("--out", metavar="FILE", help="with --test: write the results as JSON")
    parser.add_argument("--format", choices=("pdparams", "safetensors"), default="pdparams",
                        help="format of the saved weights, default pdparams")
    parser.add_argument("--amp", action="store_true", help="train in mixed precision")
    parser.add_argument("--amp_level", choices=("O1", "O2"), help="level of mixed precision, default O1")
    parser.add_argument("--max_iters", type=int, metavar="N", help="at most N iterations per epoch, for quick trials")
    parser.add_argument("--seed", type=int, metavar="N", help=f"default: the config's seed, or {DEFAULT_SEED}")
    parser.add_argument("--resume", nargs="?", const=True, metavar="FILE_OR_FOLDER",
                        help="resume the run in output_dir, or that of a .pdstate file or its folder")
    parser.add_argument("--overwrite", action="store_true",
                        help="start a new run even if output_dir contains another or an unfinished run")
    parser.add_argument("--keep", type=int, metavar="N", help="keep the checkpoints of the last N epochs, and the best")
    parser.add_argument("--save_every", metavar="N|TIME", help="save the state for --resume every N steps, or every "
                        "90s, 10m, 1h; default 10m; it is always saved at the end of an epoch")
    parser.add_argument("--skip_bad", action="store_true",
                        help="skip unusable samples and write a list of them; by default they are an error")
    parser.add_argument("--sync_bn", action="store_true",
                        help="compute BatchNorm's statistics over the batches of all processes")
    parser.add_argument("--fleet", action="store_true",
                        help="ignored: training is distributed if started by python -m paddle.distributed.launch")
    for kind in ("gpu", "npu"):
        add_switch(parser, f"use_{kind}", f"compute on {kind.upper()}s; default: as in the config, or if available",
                   None)


def run(args):
    load_paddle()
    config = load_config(args.config, args.override)
    replace_device(config, args.use_gpu, args.use_npu)
    if args.output and any(text.split("=")[0].strip() == "output_dir" for text in args.override):
        raise ConfigError("-o", f"{args.output} and output_dir=… both name the run's folder", "Omit one of them")
    if args.output:
        config["output_dir"] = args.output
    if args.max_iters is not None and args.max_iters < 1:
        raise ConfigError("--max_iters", f"found {args.max_iters}, expected at least 1")
    if args.allow_mismatch and (args.test or not args.weights):
        raise ConfigError("--allow_mismatch", "applies only to training from a checkpoint", "Add -w FILE")
    if args.test and (args.resume or args.overwrite or args.skip_bad):
        raise ConfigError("--test", "does not start or resume a run", "Omit --resume, --overwrite and --skip_bad")
    if args.resume and args.overwrite:
        raise ConfigError("--overwrite", "starts a new run, but --resume resumes an existing one", "Omit one of them")
    if args.keep is not None and args.keep < 1:
        raise ConfigError("--keep", f"found {args.keep}, expected at least 1")
    config.update({key: value for key in ("keep", "save_every", "sync_bn") if (value := getattr(args, key))})
    if args.test:
        from ..training.test import test

        if not args.weights:
            raise ConfigError("--test", "needs a checkpoint", "Add -w FILE")
        test(config, args.weights, args.out, args.max_iters)
        return
    if args.out:
        raise ConfigError("--out", "is only for --test", "Add --test, or omit --out")
    if args.amp_level and not args.amp:
        raise ConfigError("--amp_level", "is only for --amp", "Add --amp")
    from ..training.trainer import TrainOptions, train

    train(config, TrainOptions(
        weights=args.weights, allow_mismatch=args.allow_mismatch, validate=args.validate, seed=args.seed,
        max_iters=args.max_iters, amp_level=(args.amp_level or "O1") if args.amp else None,
        weights_format=args.format, resume=args.resume, overwrite=args.overwrite, skip_bad=args.skip_bad,
        profiler_options=args.profiler_options))
