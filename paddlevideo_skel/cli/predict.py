"""``paddlevideo-skel predict`` and ``tools/predict.py``. Imports no paddle unless the runtime is Paddle's."""
from . import add_switch, load_paddle


def add_arguments(parser):
    parser.add_argument("-c", "--config", metavar="FILE",
                        help="config file; not needed, the export knows its pre-processing")
    parser.add_argument("-o", "--override", action="append", default=[], metavar="A.B=VALUE",
                        help="override a key of the config; may be repeated")
    parser.add_argument("-i", "--input_file", required=True, metavar="PATH",
                        help="a .npy array, an annotation pickle, a data set pickle, or a folder of them")
    parser.add_argument("--model_file", required=True, metavar="FILE",
                        help="the export: its folder or its graph (.json, .pdmodel, .onnx: either name finds it)")
    parser.add_argument("--params_file", metavar="FILE", help="weights (.pdiparams); found beside the graph")
    parser.add_argument("-b", "--batch_size", type=int, metavar="N",
                        help="samples an answer; default: as many as the model takes, or 1 if it takes any")
    add_runtime(parser)
    parser.add_argument("--top_k", type=int, metavar="K", help="classes to tell; default: as the config said")
    parser.add_argument("--json", metavar="FILE", help="write the results as JSON")
    add_switch(parser, "enable_benchmark", "measure and report AutoLog's fields")
    add_switch(parser, "time_test_file", "tell the mean time of a file")


def add_runtime(parser):
    """What computes, and how; ``runtime_options`` reads it."""
    parser.add_argument("--runtime", choices=("auto", "fastest", "onnxruntime", "paddle"), default="auto",
                        help="auto (default): the fastest known of those that are installed and answer the self-check "
                        "rightly; fastest: measure them here and now")
    add_switch(parser, "use_gpu", "compute on a GPU; default: if there is one", None)
    add_switch(parser, "use_npu", "compute on an NPU; default: if there is one", None)
    add_switch(parser, "enable_mkldnn", "oneDNN on a CPU; refused where its answers are wrong; default: as is best for "
               "the export", None)
    add_switch(parser, "use_tensorrt", "TensorRT on a GPU")
    add_switch(parser, "ir_optim", "let the runtime rewrite the graph, default True", True)
    parser.add_argument("--cpu_threads", type=int, metavar="N", help="threads for one answer, default all cores")
    parser.add_argument("--precision", default="fp32", metavar="P", help="fp32, fp16 or bf16")
    parser.add_argument("--gpu_mem", type=int, default=8000, metavar="MB", help="memory to reserve on a GPU")


def runtime_options(args):
    from ..inference.runtime import RuntimeOptions

    return RuntimeOptions(args.use_gpu, args.use_npu, args.enable_mkldnn, args.cpu_threads, args.precision,
                   args.use_tensorrt, args.ir_optim, args.gpu_mem)


def prepare(kind):
    """What a runtime wants before it is imported."""
    if kind == "paddle":
        load_paddle()


def run(args):
    from ..inference.artifact import find_export_files
    from ..inference.predict import Predictor, check_pipeline_given, predict
    from ..inference.select import open_named

    options, config = runtime_options(args), None
    if args.config:
        from ..config import load_config  # YAML, which prediction needs for nothing else

        config = load_config(args.config, args.override)
    export = find_export_files(args.model_file, args.params_file)
    if config is not None:
        check_pipeline_given(config, export.metadata)
    with open_named(export, args.runtime, options, args.batch_size or 1, prepare) as runtime:
        predict(Predictor(runtime, args.top_k), args.input_file, args.batch_size, args.json, args.enable_benchmark,
                args.time_test_file)
