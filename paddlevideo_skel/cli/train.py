"""``paddlevideo-skel train`` and, with ``--test``, the whole of PaddleVideo's ``main.py``."""
from ..config import load_config
from ..devices import replace_device
from ..errors import ConfigError
from . import add_switch, load_paddle


def add_arguments(parser):
    parser.add_argument("-c", "--config", required=True, metavar="FILE", help="config file")
    parser.add_argument("-o", "--override", action="append", default=[], metavar="A.B=VALUE",
                        help="override a key of the config; may be repeated")
    parser.add_argument("-w", "--weights", metavar="FILE", help="checkpoint to start from, or to test")
    parser.add_argument("--allow-mismatch", "--allow_mismatch", action="store_true",
                        help="with -w, to fine-tune for other classes or joints: what depends on them begins anew")
    parser.add_argument("--validate", action="store_true", help="validate while training and keep the best")
    parser.add_argument("--test", action="store_true", help="test the checkpoint given with -w")
    parser.add_argument("--out", metavar="FILE", help="with --test: write the results as JSON")
    parser.add_argument("--format", choices=("pdparams", "safetensors"), default="pdparams",
                        help="of the weights that training saves")
    parser.add_argument("--amp", action="store_true", help="train in mixed precision")
    parser.add_argument("--amp_level", choices=("O1", "O2"), help="level of mixed precision, default O1")
    parser.add_argument("--max_iters", type=int, metavar="N", help="at most N iterations an epoch, for trials")
    parser.add_argument("--seed", type=int, help="default: the config's seed, or 1234")
    parser.add_argument("--resume", nargs="?", const=True, metavar="FILE_OR_FOLDER",
                        help="go on with the run in output_dir, or with that of a .pdstate file or its folder")
    parser.add_argument("--overwrite", action="store_true",
                        help="begin anew in an output_dir that holds another run or an unfinished one")
    parser.add_argument("--keep", type=int, metavar="N", help="keep the checkpoints of the last N epochs, and the best")
    parser.add_argument("--save_every", metavar="N|TIME", help="save the state for --resume every N steps, or every "
                        "90s, 10m, 1h; default 10m; at the end of an epoch it is saved anyway")
    parser.add_argument("--skip-bad", "--skip_bad", action="store_true",
                        help="train without the samples that cannot be used, and write their list; by default training "
                        "does not begin")
    parser.add_argument("--sync_bn", action="store_true",
                        help="BatchNorm over the batches of all processes together")
    parser.add_argument("--fleet", action="store_true",
                        help="accepted: started by python -m paddle.distributed.launch, training is distributed anyway")
    for kind in ("gpu", "npu"):
        add_switch(parser, f"use_{kind}", f"compute on {kind.upper()}s; default: as the config says, or if there are "
                   "any", None)
    parser.add_argument("-p", "--profiler_options", metavar="K=V;K=V",
                        help='profile training steps, e.g. "batch_range=[10,20];sorted_key=total"')


def run(args):
    load_paddle()
    config = load_config(args.config, args.override)
    replace_device(config, args.use_gpu, args.use_npu)
    if args.max_iters is not None and args.max_iters < 1:
        raise ConfigError("--max_iters", f"found {args.max_iters}, expected at least 1")
    if args.allow_mismatch and (args.test or not args.weights):
        raise ConfigError("--allow-mismatch", "belongs to training from a checkpoint", "Give it with -w FILE")
    if args.test and (args.resume or args.overwrite or args.skip_bad):
        raise ConfigError("--test", "neither goes on with a run nor begins one", "Leave --resume, --overwrite and "
                          "--skip-bad away")
    if args.resume and args.overwrite:
        raise ConfigError("--overwrite", "begins anew, --resume goes on", "Give one of them")
    if args.keep is not None and args.keep < 1:
        raise ConfigError("--keep", f"found {args.keep}, expected at least 1")
    config.update({key: value for key in ("keep", "save_every", "sync_bn") if (value := getattr(args, key))})
    if args.test:
        from ..training.test import test

        if not args.weights:
            raise ConfigError("--test", "needs the checkpoint", "Give it with -w FILE")
        test(config, args.weights, args.out, args.max_iters)
        return
    if args.out:
        raise ConfigError("--out", "belongs to --test")
    if args.amp_level and not args.amp:
        raise ConfigError("--amp_level", "belongs to --amp", "Give --amp too")
    from ..training.trainer import TrainOptions, train

    train(config, TrainOptions(
        weights=args.weights, allow_mismatch=args.allow_mismatch, validate=args.validate, seed=args.seed,
        max_iters=args.max_iters, amp_level=(args.amp_level or "O1") if args.amp else None,
        weights_format=args.format, resume=args.resume, overwrite=args.overwrite, skip_bad=args.skip_bad,
        profiler_options=args.profiler_options))
