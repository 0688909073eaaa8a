"""The rules of the house (docs/architecture.md): each is a function from sources to what breaks it.

Each rule is also shown a source that breaks it, so that a rule which finds nothing is known to look.
"""
import ast
import re

import pytest
from paths import ROOT

PACKAGE = "paddlevideo_skel"
GROUND = {"errors", "registry", "skeleton", "files", "logs", "yaml_reader", "config_schema", "config", "manifest",
          "workers", "devices", "safe_pickle", "plotting", "evaluation"}
# Room → what it may import, besides itself.
MAY_IMPORT = {
    **dict.fromkeys(GROUND, GROUND),
    "data": GROUND,
    "importers": GROUND | {"data"},
    "models": GROUND,
    "checkpoints": GROUND | {"models", "build"},
    "build": GROUND | {"data", "models"},
    "training": GROUND | {"data", "models", "checkpoints", "build"},
    "inference": GROUND | {"data"},
    "export": GROUND | {"data", "models", "checkpoints", "build", "inference"},
    "ascend": GROUND | {"data", "checkpoints", "inference", "export"},
    "probes": GROUND | {"inference"},
    "doctor": GROUND | {"inference", "ascend", "probes"},
}
TOP = {"cli", "__main__", "__init__"}  # may import everything
PADDLE = {"inference/paddle_runtime.py": "Paddle Inference"}  # of the rooms without paddle, and why
NO_PADDLE = GROUND | {"data", "importers", "inference", "ascend", "probes", "doctor"}
MAX_LINES, MIN_LINES = 400, 60
SHORT = {  # and why
    "data/annotation.py": "the one form of a sample, which every room reads",
    "data/mixup.py": "the only transform of whole batches",
    "export/minimal/stgcn.py": "one file per model family",
    "importers/ready_config.py": "the config that an import leaves",
    "probes.py": "what doctor runs in processes of their own",
}


def read_sources():
    """Path below the package → source."""
    top = ROOT / PACKAGE
    return {str(path.relative_to(top)): path.read_text(encoding="utf-8") for path in sorted(top.rglob("*.py"))
            if "configs" not in path.relative_to(top).parts}


def room_of(path):
    return path.split("/")[0].removesuffix(".py")


def imports_of(path, source):
    """``(line, module)`` of everything that a file imports; relative imports by their full name."""
    package = [PACKAGE, *path.split("/")[:-1]]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"


def upward_imports(sources):
    for path, source in sources.items():
        room = room_of(path)
        if room in TOP:
            continue
        for line, module in imports_of(path, source):
            parts = module.split(".")
            allowed = MAY_IMPORT.get(room, set()) | {room, "__version__"}
            if parts[0] == PACKAGE and len(parts) > 1 and parts[1] not in allowed:
                yield f"{path}:{line}: {room} imports {parts[1]}"


def imports_of_paddle(sources):
    for path, source in sources.items():
        for line, module in imports_of(path, source):
            if module.split(".")[0] == "paddle" and room_of(path) in NO_PADDLE and path not in PADDLE:
                yield f"{path}:{line}: imports paddle"


def odd_sizes(sources):
    for path, source in sources.items():
        lines = source.count("\n")
        if path.endswith("__init__.py") or room_of(path) in TOP:
            continue
        if lines > MAX_LINES:
            yield f"{path}: {lines} lines, at most {MAX_LINES}"
        if lines < MIN_LINES and path not in SHORT:
            yield f"{path}: {lines} lines, fewer than {MIN_LINES} and not listed with a reason"


def public_names(source):
    for node in ast.parse(source).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name) and target.id.isupper())


def names_that_mean_two_things(sources):
    places = {}
    for path, source in sources.items():
        if room_of(path) not in TOP:
            for name in public_names(source):
                if not name.startswith("_"):
                    places.setdefault(name, []).append(path)
    for name, paths in places.items():
        if len(paths) > 1:
            yield f"{name}: {', '.join(paths)}"


def limits_without_their_prefix(sources):
    for path, source in sources.items():
        for name in re.findall(r"^(\w*(?:MOST|LEAST|LARGEST|SMALLEST|LONGEST|SHORTEST|DEEPEST)\w*)\b.*=", source, re.M):
            yield f"{path}: {name}, expected MAX_… or MIN_…"


def folders_begun_by_hand(sources):
    """Locks and resuming belong to the manifest; metadata is written where exports are made."""
    for path, source in sources.items():
        for line, module in imports_of(path, source):
            if module.split(".")[0] in ("fcntl", "filelock") and path != "manifest.py":
                yield f"{path}:{line}: locks by itself, not through manifest.py"
        if not path.startswith("inference/") and re.search(r"\bwrite_metadata\(", source):
            yield f"{path}: writes metadata by itself, not through derive()"


def models_without_their_parts(sources):
    """A model's file registers a backbone; export/minimal/ has a file of the same name, and the small models a row."""
    table = (ROOT / "tests" / "helpers" / "small_models.py").read_text(encoding="utf-8")
    for path, source in sources.items():
        for name in re.findall(r"@BACKBONES\.register\nclass (\w+)", source):
            if f"export/minimal/{path.split('/')[-1]}" not in sources:
                yield f"{path}: {name} has no export/minimal/{path.split('/')[-1]}"
            if f'"{name}"' not in table:
                yield f"{path}: {name} has no row in tests/helpers/small_models.py"


def speed_in_models(sources):
    """Model files read like their papers: only the file that swaps forwards knows about speed."""
    for path, source in sources.items():
        if path.startswith("models/") and not path.startswith("models/cpu"):
            for line, module in imports_of(path, source):
                if ".cpu" in module:
                    yield f"{path}:{line}: imports {module}"


RULES = {
    upward_imports: [{"data/a.py": "from ..models import x"}, {"training/a.py": "from ..export.export import x"},
                     {"export/a.py": "def f():\n    from ..ascend import atc"}, {"errors.py": "from . import data"},
                     {"importers/a.py": "import paddlevideo_skel.checkpoints.load"}],
    imports_of_paddle: [{"data/a.py": "def f():\n    import paddle"}, {"devices.py": "import paddle"},
                        {"inference/select.py": "from paddle import nn"}],
    odd_sizes: [{"data/a.py": "\n" * 401}, {"data/a.py": "\n" * 59}],
    names_that_mean_two_things: [{"data/a.py": "def find():\n    pass", "models/b.py": "class find:\n    pass"},
                                 {"data/a.py": "KINDS = 1", "models/b.py": "KINDS = 2"}],
    limits_without_their_prefix: [{"data/a.py": "MOST_BYTES = 3"}, {"a.py": "LARGEST = 3"}],
    folders_begun_by_hand: [{"training/a.py": "import fcntl"}, {"importers/a.py": "from filelock import FileLock"},
                            {"export/a.py": "write_metadata({}, path)"}],
    models_without_their_parts: [{"models/new.py": "@BACKBONES.register\nclass New(nn.Layer):\n    pass"}],
    speed_in_models: [{"models/new.py": "from .cpu import products"}],
}


@pytest.mark.parametrize("rule", RULES)
def test_the_package_keeps_the_rule(rule):
    assert list(rule(read_sources())) == []


@pytest.mark.parametrize(("rule", "broken"), [(rule, broken) for rule, cases in RULES.items() for broken in cases])
def test_the_rule_finds_what_breaks_it(rule, broken):
    assert list(rule(broken))


def test_the_lists_of_exceptions_are_current():
    sources = read_sources()
    assert [path for path in (*SHORT, *PADDLE) if path not in sources] == []
    assert [path for path in SHORT if sources[path].count("\n") >= MIN_LINES] == []
