"""``paddlevideo-skel predict`` and ``tools/predict.py``. Imports no paddle unless the runtime is Paddle's."""
from . import load_paddle
from .parser import add_config, add_path, add_switch


def add_arguments(parser):
    overrides = add_config(parser, "config file; optional: the export records its pre-processing", required=False,
                           short=["-o"])
    parser.add_argument("-i", "--input_file", required=True, metavar="PATH",
                        help="a .npy array, an annotation pickle, a data set pickle, or a folder of them")
    parser.add_argument("--model_file", required=True, metavar="FILE",
                        help="the export: its folder or any of its graph files (.json, .pdmodel, .onnx)")
    parser.add_argument("--params_file", metavar="FILE", help="weights (.pdiparams); default: next to the graph")
    parser.add_argument("-b", "--batch_size", type=int, metavar="N",
                        help="samples per batch; default: the model's batch size, or 1 if it accepts any")
    add_runtime(parser)
    parser.add_argument("--top_k", type=int, metavar="K", help="number of classes to show; default: as in the config")
    add_path(parser, "-o", "--output", "--json", pairs=overrides, dest="json", metavar="FILE",
             help="write the results as JSON")
    add_switch(parser, "enable_benchmark", "measure speed and report AutoLog's fields")
    add_switch(parser, "time_test_file", "report the mean time per file")


def add_runtime(parser):
    """The runtime and its options; ``runtime_options`` reads them."""
    parser.add_argument("--runtime", choices=("auto", "fastest", "onnxruntime", "paddle"), default="auto",
                        help="auto (default): the fastest known runtime that is installed and passes the "
                        "self-check; fastest: measure all now")
    add_switch(parser, "use_gpu", "compute on a GPU; default: if available", None)
    add_switch(parser, "use_npu", "compute on an NPU; default: if available", None)
    add_switch(parser, "enable_mkldnn", "use oneDNN on a CPU; refused if its results are wrong; default: whatever "
               "is best for the export", None)
    add_switch(parser, "use_tensorrt", "use TensorRT on a GPU")
    add_switch(parser, "ir_optim", "let the runtime optimise the graph, default True", True)
    parser.add_argument("--cpu_threads", type=int, metavar="N", help="threads per batch; default: all cores")
    parser.add_argument("--precision", default="fp32", metavar="P", help="fp32 (default), fp16 or bf16")
    parser.add_argument("--gpu_mem", type=int, default=8000, metavar="MB",
                        help="GPU memory to reserve in MB, default 8000")


def runtime_options(args):
    from ..inference.runtime import RuntimeOptions

    return RuntimeOptions(args.use_gpu, args.use_npu, args.enable_mkldnn, args.cpu_threads, args.precision,
                   args.use_tensorrt, args.ir_optim, args.gpu_mem)


def prepare(kind):
    """Prepare for the import of a runtime."""
    if kind == "paddle":
        load_paddle()


def run(args):
    from ..inference.artifact import find_export_files
    from ..inference.predict import Predictor, predict, warn_if_pipeline_differs
    from ..inference.select import open_named

    options, config = runtime_options(args), None
    if args.config:
        from ..config import load_config  # YAML, which prediction does not need otherwise

        config = load_config(args.config, args.override)
    export = find_export_files(args.model_file, args.params_file)
    if config is not None:
        warn_if_pipeline_differs(config, export.metadata)
    with open_named(export, args.runtime, options, args.batch_size or 1, prepare) as runtime:
        predict(Predictor(runtime, args.top_k), args.input_file, args.batch_size, args.json, args.enable_benchmark,
                args.time_test_file)
