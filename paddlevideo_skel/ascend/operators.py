"""What of an ONNX model ATC, Ascend's compiler, does not take.

ATC finds out itself, after minutes and in its own words. These checks say it at once, and on any host. What they know
is from documents: the list of operators (``onnx_operators.json`` names its source) and Huawei's manual of ATC
("General Restrictions" under its command-line options, and the list of its error codes).
"""
import importlib.resources
import json
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache

from ..errors import ConfigError, ExportError, UnavailableError, shorten_list

DATA = "onnx_operators.json"
# Not on the list, for no operator has to be found for them: ATC's parser of ONNX itself makes data of these.
PARSED = frozenset({"Constant"})
# The manual: of an ONNX model, an input is of one of these types.
INPUT_TYPES = ("FLOAT", "FLOAT16", "UINT8")
# The manual's precision modes know these floating-point types; integers are there for indices, booleans for masks. A
# chip without float64 can but leave it to its CPU, where an operator has that at all, and none of our models needs it.
TYPES = ("FLOAT", "FLOAT16", "BFLOAT16", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64",
         "BOOL")
# --input_shape is "name:1,2;name:1,2". A colon may be in a name (onnx::Reshape_0), for the last one counts.
BAD_NAME = re.compile(r"""[;,\s"'`$\\]""")
SHOWN = 3  # names in a message


@dataclass(frozen=True)
class Input:
    """One input of a model: its name and its shape, -1 where the batch is open, None where a size is unknown."""
    name: str
    shape: tuple


@lru_cache(maxsize=1)
def table():
    """The list as data: opset → operators that ATC takes."""
    text = importlib.resources.files(__package__).joinpath(DATA).read_text(encoding="utf-8")
    found = defaultdict(set)
    for versions, lines in json.loads(text)["operators"].items():
        for part in versions.split(","):
            first, _, last = part.partition("-")
            for opset in range(int(first), int(last or first) + 1):
                found[opset].update(" ".join(lines).split())
    return {opset: frozenset(names) for opset, names in sorted(found.items())}


def supported(opset):
    """Operators of the default domain that ATC takes at this opset.

    Raises:
        ConfigError: the list does not know the opset.
    """
    if opset not in table():
        raise ConfigError(f"opset {opset}", "ATC's list does not know it",
                          f"Known: {', '.join(map(str, table()))}. tools/export_onnx.py --opset chooses it")
    return table()[opset] | PARSED


def import_onnx():
    """The ``onnx`` package.

    Raises:
        UnavailableError: it is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise UnavailableError("ATC's check of the model", f"onnx cannot be imported ({error})",
                               "pip install 'paddlevideo-skel[onnx]', or onnx alone") from error
    return onnx


def load(path):
    """An ONNX model.

    Raises:
        ExportError: there is none, or it cannot be read.
    """
    onnx = import_onnx()
    try:
        model = onnx.load(path)
    except FileNotFoundError as error:
        raise ExportError(path, "no such ONNX model", "tools/export_onnx.py makes one of an export") from error
    except Exception as error:  # protobuf's errors share no base class but this one
        raise ExportError(path, f"is no ONNX model ({type(error).__name__}: {error})") from error
    if not model.graph.node:
        raise ExportError(path, "is no ONNX model: it holds no graph")
    return model


def inputs(model):
    """The inputs that somebody has to feed, as ``Input``s."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [Input(value.name, _shape(value, open_batch=True)) for value in model.graph.input
            if value.name not in weights]


def model_opset(model):
    """Version of ONNX's own operator set that the model uses; None without one."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), None)


def check(path, opset=None, batch=None):
    """What of a model ATC does not take.

    Args:
        path: the ONNX file, or the loaded model.
        opset: version whose list counts; None: the model's own.
        batch: size that an open batch axis gets before shapes are looked at, as ``--input_shape`` gives it to ATC.

    Returns:
        problems in words, none if ATC should take it; of shapes and types only where operators and names are all right.
        None is no promise: ATC alone knows its operators' limits.

    Raises:
        ExportError: no readable model. UnavailableError: onnx is not installed.
    """
    model = load(path) if isinstance(path, (str, bytes)) or hasattr(path, "__fspath__") else path
    problems = operator_problems(model, opset) + name_problems(model)
    if problems:
        return problems  # shapes follow from known operators only
    onnx = import_onnx()
    try:
        onnx.checker.check_model(model)  # of an invalid model shape inference may crash
        model = with_shapes(model, batch)
    except Exception as error:  # the checker and shape inference have error classes of their own, and protobuf's
        return [f"it is not valid, or its shapes contradict each other: {' '.join(str(error).split())}"]
    return shape_problems(model, batch) + type_problems(model)


def operator_problems(model, opset=None):
    """Operators that are not on the list, and foreign operator sets."""
    opset = opset or model_opset(model)
    if opset not in table():
        return [f"opset {opset} is not on ATC's list, which has {', '.join(map(str, table()))}: export it again at "
                "another --opset"]
    problems, off, known = [], defaultdict(list), supported(opset)
    for node in nodes(model.graph):
        if node.domain not in ("", "ai.onnx"):
            off[f"operator {node.domain}::{node.op_type}", "is of another operator set than ONNX's own"].append(node)
        elif node.op_type not in known:
            off[f"operator {node.op_type}", f"is not on ATC's list for opset {opset}"].append(node)
    problems += [f"{name} {why} ({_some([_name(node) for node in found], 'node')})"
                 for (name, why), found in off.items()]
    foreign = sorted({entry.domain for entry in model.opset_import} - {"", "ai.onnx"})
    if foreign and not any("another operator set" in problem for problem in problems):
        # ATC's error E16005: a model that names several operator sets, used or not, is refused.
        problems.append(f"the model names operator sets besides ONNX's own, which ATC refuses: {', '.join(foreign)}")
    return problems


def name_problems(model):
    """Names that ATC's arguments cannot hold, and nodes of one name (ATC's error E13009)."""
    problems = [f"the input's name {value.name!r} cannot stand in --input_shape: it holds a space, a quote, "
                "$, a backslash, a comma or a semicolon" for value in inputs(model) if BAD_NAME.search(value.name)]
    seen = defaultdict(int)
    for node in nodes(model.graph):
        seen[node.name] += bool(node.name)
    twice = [name for name, count in seen.items() if count > 1]
    return problems + ([f"nodes share a name ({_some(twice, 'name')})"] if twice else [])


def with_shapes(model, batch=None):
    """A copy of the model that notes every shape which follows from its inputs, an open batch axis being ``batch``."""
    onnx = import_onnx()
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    open_batch = {item.name for item in inputs(model) if item.shape and item.shape[0] == -1}
    if batch is not None and open_batch:
        for value in copy.graph.input:
            if value.name in open_batch:
                value.type.tensor_type.shape.dim[0].dim_value = batch
        # What the converter noted inside and of the output was for an open batch.
        del copy.graph.value_info[:]
        for value in copy.graph.output:
            value.type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(copy, strict_mode=True, data_prop=True)


def shape_problems(model, batch=None):
    """Inputs and values that ONNX's shape inference does not know to be static."""
    known = _values(model.graph)
    names = [item.name for item in inputs(model)] + [name for node in model.graph.node for name in node.output if name]
    fluid = [f"{name} {_words(known.get(name))}" for name in names if not _is_static(known.get(name))]
    size = "" if batch is None else f" at batch {batch}"
    return [f"shapes are not known to be static{size} ({_some(fluid, 'value')})"] if fluid else []


def type_problems(model):
    """Types that ATC does not take: of inputs, and of values inside."""
    name_of, graph = import_onnx().TensorProto.DataType.Name, model.graph
    kinds = {name: name_of(value.type.tensor_type.elem_type) for name, value in _values(graph).items()}
    kinds |= {tensor.name: name_of(tensor.data_type) for tensor in graph.initializer}
    fed = [item.name for item in inputs(model)]
    problems = [f"the input {name} is {kinds[name].lower()}: ATC takes {', '.join(INPUT_TYPES).lower()}"
                for name in fed if kinds[name] not in INPUT_TYPES]
    for kind in sorted(set(kinds.values()) - {*TYPES, "UNDEFINED"}):
        names = [name for name in kinds if kinds[name] == kind and name not in fed]
        if names:
            problems.append(f"the chip does not compute with {kind.lower()} ({_some(names, 'value')})")
    return problems


def nodes(graph):
    """All nodes of a graph, those in the branches of ``If`` and the like too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else attribute.graphs):
                yield from nodes(inner)


def _values(graph):
    return {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}


def _shape(value, open_batch=False):
    """Sizes of a value, or None without a shape; an unknown size is None, and -1 for an open batch."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    sizes = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None
             for dim in value.type.tensor_type.shape.dim]
    if open_batch and sizes and sizes[0] is None:
        sizes[0] = -1
    return tuple(sizes)


def _is_static(value):
    # The manual: every size of what layers exchange is positive.
    shape = None if value is None else _shape(value)
    return shape is not None and all(shape)


def _words(value):
    shape = None if value is None else _shape(value)
    return "of unknown shape" if shape is None else f"({', '.join('?' if n is None else str(n) for n in shape)})"


def _name(node):
    return node.name or next(filter(None, node.output), "without a name")


def _some(names, what):
    """``node a, b, c and 7 more``"""
    return f"{what}{'s' * (len(names) > 1)} {shorten_list(names, SHOWN)}"
