"""Problems of an ONNX model that would make ATC, Ascend's compiler, refuse it.

ATC itself reports them only after minutes; these checks report them immediately, on any host. They follow the
documents: the list of operators (``onnx_operators.json`` names its source) and Huawei's manual of ATC ("General
Restrictions" of the command-line options, and the error codes).
"""
import importlib.resources
import json
import os
import re
from collections import defaultdict
from functools import lru_cache

from ..errors import ConfigError
from ..export.onnx_model import (
    import_onnx,
    load_onnx,
    model_inputs,
    model_opset,
    name_some,
    shape_problems,
    values_by_name,
    with_shapes,
)

OPERATOR_LIST = "onnx_operators.json"
# Not on the list because ATC's ONNX parser turns it into data, which needs no operator.
PARSED = frozenset({"Constant"})
# The manual: inputs of ONNX models have one of these types.
INPUT_TYPES = ("FLOAT", "FLOAT16", "UINT8")
# Floating-point types of the manual's precision modes; integers are indices, booleans are masks. A chip without
# float64 can at most fall back to its CPU, and none of our models needs float64.
VALUE_TYPES = ("FLOAT", "FLOAT16", "BFLOAT16", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32",
               "UINT64", "BOOL")
# --input_shape is "name:1,2;name:1,2". A name may contain a colon (onnx::Reshape_0): the last one counts.
BAD_NAME = re.compile(r"""[;,\s"'`$\\]""")


@lru_cache(maxsize=1)
def operator_table():
    """The list as a dict: opset → operators that ATC supports."""
    text = importlib.resources.files(__package__).joinpath(OPERATOR_LIST).read_text(encoding="utf-8")
    found = defaultdict(set)
    for versions, lines in json.loads(text)["operators"].items():
        for part in versions.split(","):
            first, _, last = part.partition("-")
            for opset in range(int(first), int(last or first) + 1):
                found[opset].update(" ".join(lines).split())
    return {opset: frozenset(names) for opset, names in sorted(found.items())}


def supported_operators(opset):
    """Operators of ONNX's own operator set that ATC supports at this opset.

    Raises:
        ConfigError: the list does not include the opset.
    """
    if opset not in operator_table():
        known = ", ".join(map(str, operator_table()))
        raise ConfigError(f"opset {opset}", "is not on ATC's list",
                          f"Known: {known}. Choose one with tools/export_onnx.py --opset")
    return operator_table()[opset] | PARSED


def atc_problems(model, opset=None, batch=None):
    """Reasons why ATC would refuse a model.

    Args:
        model: path of the ONNX file, or the loaded model.
        opset: version whose list is used; None: the model's own.
        batch: size for a dynamic batch axis when shapes are checked, as ``--input_shape`` sets it.

    Returns:
        messages. Shapes and types are checked only if operators and names are valid. An empty list is no
        guarantee: only ATC knows the limits of its operators.

    Raises:
        ExportError: the file is missing or is not an ONNX model. UnavailableError: onnx is not installed.
    """
    model = load_onnx(model) if isinstance(model, (str, os.PathLike)) else model
    problems = operator_problems(model, opset) + name_problems(model)
    if problems:
        return problems  # shapes can be inferred for known operators only
    onnx = import_onnx()
    try:
        onnx.checker.check_model(model)  # shape inference may crash on an invalid model
        model = with_shapes(model, batch)
    except Exception as error:  # the checker, shape inference and protobuf raise unrelated exception classes
        return [f"it is not valid, or its shapes contradict each other: {' '.join(str(error).split())}"]
    return shape_problems(model, batch) + type_problems(model)


def operator_problems(model, opset=None):
    """Operators that are not on the list, and operator sets other than ONNX's own."""
    opset = opset or model_opset(model)
    if opset not in operator_table():
        return [f"opset {opset} is not on ATC's list, which has {', '.join(map(str, operator_table()))}: export it "
                "again at another --opset"]
    problems, off, known = [], defaultdict(list), supported_operators(opset)
    for node in all_nodes(model.graph):
        if node.domain not in ("", "ai.onnx"):
            off[f"operator {node.domain}::{node.op_type}", "belongs to an operator set other than ONNX's"].append(node)
        elif node.op_type not in known:
            off[f"operator {node.op_type}", f"is not on ATC's list for opset {opset}"].append(node)
    problems += [f"{name} {why} ({name_some([_name(node) for node in found], 'node')})"
                 for (name, why), found in off.items()]
    foreign = sorted({entry.domain for entry in model.opset_import} - {"", "ai.onnx"})
    if foreign and not any("operator set other" in problem for problem in problems):
        # ATC's error E16005: it refuses a model that declares several operator sets, used or not.
        problems.append("the model declares operator sets other than ONNX's own, which ATC refuses: "
                        + ", ".join(foreign))
    return problems


def name_problems(model):
    """Input names that ATC's arguments cannot contain, and nodes that share a name (ATC's error E13009)."""
    problems = [f"the input name {item.name!r} cannot be used in --input_shape: it contains a space, a quote, "
                "$, a backslash, a comma or a semicolon" for item in model_inputs(model) if BAD_NAME.search(item.name)]
    seen = defaultdict(int)
    for node in all_nodes(model.graph):
        seen[node.name] += bool(node.name)
    shared = [name for name, count in seen.items() if count > 1]
    return problems + ([f"nodes share a name ({name_some(shared, 'name')})"] if shared else [])


def type_problems(model):
    """Types of inputs and inner values that ATC does not support."""
    name_of, graph = import_onnx().TensorProto.DataType.Name, model.graph
    types = {name: name_of(value.type.tensor_type.elem_type) for name, value in values_by_name(graph).items()}
    types |= {tensor.name: name_of(tensor.data_type) for tensor in graph.initializer}
    fed = [item.name for item in model_inputs(model)]
    problems = [f"the input {name} is {types[name].lower()}: ATC takes {', '.join(INPUT_TYPES).lower()}"
                for name in fed if types[name] not in INPUT_TYPES]
    for kind in sorted(set(types.values()) - {*VALUE_TYPES, "UNDEFINED"}):
        names = [name for name in types if types[name] == kind and name not in fed]
        if names:
            problems.append(f"the chip does not support {kind.lower()} ({name_some(names, 'value')})")
    return problems


def all_nodes(graph):
    """All nodes of a graph, including those in the branches of ``If`` and other subgraphs."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else attribute.graphs):
                yield from all_nodes(inner)


def _name(node):
    return node.name or next(filter(None, node.output), "without a name")
