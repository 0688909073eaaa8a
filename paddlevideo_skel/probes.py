"""What an installed package can do here. Runs in a process of its own: a broken package may take it down."""
import importlib
import importlib.metadata
import json

MARK = "probe: "
DISTRIBUTIONS = {"paddle": ("paddlepaddle", "paddlepaddle-gpu"), "auto_log": ("auto_log",), "acl": (),
                 "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-cann")}


def version(name, module):
    """A package's version, and under which other name it was installed."""
    for distribution in DISTRIBUTIONS.get(name, (name,)):
        try:
            text = importlib.metadata.version(distribution)
            return text if distribution == DISTRIBUTIONS.get(name, (name,))[0] else f"{text} ({distribution})"
        except importlib.metadata.PackageNotFoundError:
            continue
    return str(getattr(module, "__version__", "installed"))


def paddle_devices(paddle):
    """The devices that paddle finds."""
    from .devices import DEVICES, count_devices

    counts = [f"{count_devices(paddle, kind)} {kind.upper()}" for kind in DEVICES if count_devices(paddle, kind)]
    return ", ".join(["CPU", *counts])


def onnxruntime_providers(onnxruntime):
    """Its execution providers, and which of them cannot be loaded and why."""
    from .inference.onnx_runtime import library_problem

    texts = []
    for provider in onnxruntime.get_available_providers():
        problem = library_problem(provider)
        texts.append(provider.removesuffix("ExecutionProvider") + (f" (unusable: {problem})" if problem else ""))
    return ", ".join(texts)


def openvino_devices(openvino):
    return ", ".join(openvino.Core().available_devices)


INSIDE = {"ais_bench": "ais_bench.infer.interface"}  # where its own imports show whether all of it is installed
DETAILS = {"paddle": paddle_devices, "onnxruntime": onnxruntime_providers, "openvino": openvino_devices}


def main(name):
    """Import a package and print what it is, as JSON in one line after ``MARK``; it may print more itself."""
    module = importlib.import_module(INSIDE.get(name, name))
    details = DETAILS[name](module) if name in DETAILS else ""
    print("\n" + MARK + json.dumps({"version": version(name, module), "details": details}), flush=True)
