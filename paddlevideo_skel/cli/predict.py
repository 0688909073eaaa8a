"""``paddlevideo-skel predict`` and ``tools/predict.py``. Imports no paddle unless the runtime is Paddle's."""
import argparse

from ..config import load_config
from . import load_paddle


def boolean(text):
    """``True``, ``true``, ``1`` … as PaddleVideo's flags are written."""
    if text.lower() in ("true", "t", "1", "yes"):
        return True
    if text.lower() in ("false", "f", "0", "no"):
        return False
    raise argparse.ArgumentTypeError(f"found {text!r}, expected True or False")


def add_arguments(parser):
    def switch(name, text, default=False):
        parser.add_argument(f"--{name}", type=boolean, nargs="?", const=True, default=default, metavar="BOOL",
                            help=text)

    parser.add_argument("-c", "--config", metavar="FILE",
                        help="config file; not needed, the export knows its pre-processing")
    parser.add_argument("-o", "--override", action="append", default=[], metavar="A.B=VALUE",
                        help="override a key of the config; may be repeated")
    parser.add_argument("-i", "--input_file", required=True, metavar="PATH",
                        help="a .npy array, an annotation pickle, a data set pickle, or a folder of them")
    parser.add_argument("--model_file", required=True, metavar="FILE",
                        help="the export: its folder or its graph (.json, .pdmodel, .onnx: either name finds it)")
    parser.add_argument("--params_file", metavar="FILE", help="weights (.pdiparams); found beside the graph")
    parser.add_argument("-b", "--batch_size", type=int, default=1, metavar="N", help="samples an answer, default 1")
    parser.add_argument("--runtime", choices=("paddle", "onnxruntime"), help="default: paddle where it is installed")
    parser.add_argument("--top_k", type=int, metavar="K", help="classes to tell; default: as the config said")
    parser.add_argument("--json", metavar="FILE", help="write the results as JSON")
    switch("use_gpu", "compute on a GPU; default: if there is one", None)
    switch("use_npu", "compute on an NPU; default: if there is one", None)
    switch("enable_mkldnn", "oneDNN on a CPU; refused where its answers are wrong")
    switch("use_tensorrt", "TensorRT on a GPU")
    switch("ir_optim", "let the runtime rewrite the graph, default True", True)
    parser.add_argument("--cpu_threads", type=int, metavar="N", help="threads for one answer, default all cores")
    parser.add_argument("--precision", default="fp32", metavar="P", help="fp32, fp16 or bf16")
    parser.add_argument("--gpu_mem", type=int, default=8000, metavar="MB", help="memory to reserve on a GPU")
    switch("enable_benchmark", "measure and report AutoLog's fields")
    switch("time_test_file", "tell the mean time of a file")


def run(args):
    from ..deploy.folder import find_export_files
    from ..deploy.predict import Predictor, check_pipeline_given, predict
    from ..deploy.runtimes import Options, default_kind, open_runtime

    config = load_config(args.config, args.override) if args.config else None
    options = Options(args.use_gpu, args.use_npu, args.enable_mkldnn, args.cpu_threads, args.precision,
                      args.use_tensorrt, args.ir_optim, args.gpu_mem)
    export = find_export_files(args.model_file, args.params_file)
    if config is not None:
        check_pipeline_given(config, export.contract)
    kind = args.runtime or default_kind(export)
    if kind == "paddle":
        load_paddle()
    runtime = open_runtime(export, kind, options)
    predict(Predictor(runtime, args.top_k), args.input_file, args.batch_size, args.json, args.enable_benchmark,
            args.time_test_file)
