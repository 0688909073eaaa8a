"""Probe what an installed package offers on this host, in a separate process that a broken package may crash."""
import importlib
import importlib.metadata
import json

MARK = "probe: "
DISTRIBUTIONS = {"paddle": ("paddlepaddle", "paddlepaddle-gpu"), "auto_log": ("auto_log",), "acl": (),
                 "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-cann")}


def find_version(name, module):
    """A package's version, and the name of its distribution if that is not the usual one."""
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
    """The execution providers, and why some of them cannot be loaded."""
    from .inference.onnx_runtime import library_problem

    texts = []
    for provider in onnxruntime.get_available_providers():
        problem = library_problem(provider)
        texts.append(provider.removesuffix("ExecutionProvider") + (f" (unusable: {problem})" if problem else ""))
    return ", ".join(texts)


def openvino_devices(openvino):
    return ", ".join(openvino.Core().available_devices)


IMPORTED = {"ais_bench": "ais_bench.infer.interface"}  # a module whose import needs all parts of the package
DETAILS = {"paddle": paddle_devices, "onnxruntime": onnxruntime_providers, "openvino": openvino_devices}


def probe(name):
    """Import a package and print its version and details as JSON in a line that begins with ``MARK``."""
    module = importlib.import_module(IMPORTED.get(name, name))
    details = DETAILS[name](module) if name in DETAILS else ""
    print("\n" + MARK + json.dumps({"version": find_version(name, module), "details": details}), flush=True)
