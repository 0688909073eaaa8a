"""Configs: PaddleVideo's YAML, its overrides, and errors that name the file and the key path.

PaddleVideo's skeleton configs load unchanged. Two of their habits are read as they were meant:
misspelt booleans (``Fasle``) and tuples written as text (``(-1, 64)``). In PaddleVideo ``Fasle`` is a
non-empty text and therefore *true*, so that its bone and motion configs train on joints without a word.
"""
import ast
import logging
import re
from pathlib import Path

import yaml

from .errors import ConfigError, near_miss
from .files import is_file, replacing
from .skeleton import get_layout

logger = logging.getLogger(__name__)

SPLITS = ("train", "valid", "test")
TOP_LEVEL = {
    "MODEL": dict, "DATASET": dict, "PIPELINE": dict, "OPTIMIZER": dict, "MIX": dict, "METRIC": dict,
    "INFERENCE": dict, "PRECISEBN": dict, "LAYOUT": dict, "model_name": str, "class_names": (list, str),
    "log_interval": int, "epochs": int, "save_interval": int, "val_interval": int, "output_dir": str,
    "log_level": str, "seed": int, "device": str, "use_gpu": bool, "use_npu": bool,
    "keep": int, "save_every": (int, str), "sync_bn": bool,
}
SECTIONS = {
    "MODEL": ("framework", "backbone", "head", "models", "freeze_params_list", "loss", "runtime_cfg", "if_top5"),
    "DATASET": ("batch_size", "valid_batch_size", "test_batch_size", "num_workers", "valid_num_workers",
                "test_num_workers", "train", "valid", "test", "shuffle_valid"),
    "PIPELINE": SPLITS,
    "OPTIMIZER": ("name", "momentum", "learning_rate", "weight_decay", "use_nesterov", "grad_clip"),
    "PRECISEBN": ("preciseBN_interval", "num_iters_preciseBN"),
}
PIPELINE_STEPS = ("decode_sampler", "decode", "sample", "transform")
POSITIVE = {"epochs", "keep", "log_interval", "save_interval", "val_interval", "DATASET.batch_size",
            "DATASET.valid_batch_size", "DATASET.test_batch_size", "INFERENCE.window_size", "INFERENCE.person_nums"}
MISSPELT = {"fasle": False, "flase": False, "fales": False, "ture": True, "treu": True}
LAYOUT_KEYS = ("layout", "graph", "dataset")
MAX_CHARACTERS, MAX_VALUES, MAX_BITS, MAX_DEPTH = 64 << 10, 100_000, 1024, 50


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads ``5e-4`` as a number and tells of a key given twice."""

    source = "config"

    def fetch_flow_collection_start(self, token_class):
        # PyYAML looks at all open brackets at each token: thousands of them would take for ever.
        if self.flow_level >= MAX_DEPTH:
            raise yaml.scanner.ScannerError(None, None, f"more than {MAX_DEPTH} brackets are open", self.get_mark())
        super().fetch_flow_collection_start(token_class)

    def flatten_mapping(self, node):
        super().flatten_mapping(node)
        if len(node.value) > MAX_VALUES:
            raise yaml.constructor.ConstructorError(None, None, f"more than {MAX_VALUES} keys are merged into one",
                                                    node.start_mark)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+0123456789."))


def _mapping(loader, node):
    seen = set()
    for key_node, _ in node.value:
        if key_node.tag != "tag:yaml.org,2002:merge":
            key = loader.construct_object(key_node, deep=True)
            if not isinstance(key, (str, int, float, bool, type(None))):
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} cannot be a key", key_node.start_mark)
            if key in seen:
                # PaddleVideo's own configs do this; PyYAML takes the last without a word.
                logger.warning("%s:%d: the key %r stands twice, the last one counts", loader.source,
                               key_node.start_mark.line + 1, key)
            seen.add(key)
    loader.flatten_mapping(node)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def parse_yaml(text, source):
    """What a YAML text says, in plain mappings, lists and scalars; what was meant is put right, see ``_meant``.

    Raises:
        ConfigError: it is no YAML, too long, or holds tags, dates or numbers that no config has.
    """
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(source, f"has {len(text)} characters, expected at most {MAX_CHARACTERS}",
                          "class_names may name a text file with one a line")
    try:
        loader = _Loader(text)
        loader.source = source
        content = loader.get_single_data()
    except yaml.YAMLError as error:
        raise ConfigError(source, "is not valid YAML: " + " ".join(str(error).split())) from error
    except Exception as error:
        # PyYAML makes numbers and dates of any text that a tag calls so, and stumbles over it in any way.
        raise ConfigError(source, f"cannot be read as a config ({type(error).__name__}: {error})") from None
    try:
        return _meant(content, "", source, [MAX_VALUES])
    except RecursionError:
        raise ConfigError(source, "is nested too deeply, or holds itself by an alias") from None


class Config(dict):
    """A config's mapping, which remembers the file it came from as ``source``."""

    source = "config"

    def where(self, key_path):
        """``file: KEY.PATH`` for messages."""
        return f"{self.source}: {key_path}"

    def section(self, key_path):
        """The value at a dotted key path; an error that names the path when it is absent."""
        node = self
        for i, key in enumerate(parts := key_path.split(".")):
            if not isinstance(node, dict) or node.get(key) is None:
                raise ConfigError(self.where(".".join(parts[:i + 1])), "is missing", "Add it to the config")
            node = node[key]
        return node


def find_config(path):
    """The config file for a path: as given, or among the configs that were installed with the package."""
    given = Path(path)
    if given.is_file():
        return given
    package = Path(__file__).parent
    for root in (package / "configs", package.parent / "configs"):
        relative = given.parts[1:] if given.parts[:1] == ("configs",) else given.parts
        if relative and ".." not in relative and (root.joinpath(*relative)).is_file():
            return root.joinpath(*relative)
    names = [p.name for p in given.parent.glob("*.y*ml")] if given.parent.is_dir() else []
    raise ConfigError(path, "no such config file", near_miss(given.name, names) if names else
                      "Give the path of a YAML file, or of a packaged one such as "
                      "configs/recognition/ctrgcn/ctrgcn_ntucs_joint.yaml")


def load_config(path, overrides=()):
    """Read, override and check a config.

    Args:
        path: YAML file; ``configs/…`` is also looked up among the installed configs.
        overrides: texts ``A.B.c=value``; list items by index.

    Returns:
        ``Config``, with custom layouts (section ``LAYOUT``: name → description) put in the place of their
        names wherever ``layout``, ``graph`` or ``dataset`` name them.

    Raises:
        ConfigError: naming the file, the key path and near misses.
    """
    path = find_config(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(path, f"cannot be read ({getattr(error, 'strerror', None) or error})") from error
    content = parse_yaml(text, path)
    if not isinstance(content, dict):
        raise ConfigError(path, f"holds a {type(content).__name__}, expected key: value pairs")
    for override in overrides:
        apply_override(content, override, path)
    config = Config(content)
    config.source = str(path)
    validate(config)
    return config


def class_names(config, num_classes):
    """Names from the config's ``class_names`` (a list, or the path of a text file with one a line), or None."""
    names = config.get("class_names")
    if isinstance(names, str):
        path = next((path for path in (Path(names), Path(config.source).parent / names) if is_file(path)), None)
        if path is None:
            raise ConfigError(config.where("class_names"), f"{names[:80]!r}: no such file", "Paths count from the "
                              "working directory or from the config's folder; a list of names may stand there, too")
        try:
            names = path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(config.where("class_names"), f"{path} cannot be read ({error})") from error
        names = [name.strip() for name in names if name.strip()]
    if names is not None and len(names) != num_classes:
        raise ConfigError(config.where("class_names"), f"{len(names)} names for {num_classes} classes")
    return None if names is None else [str(name) for name in names]


def num_classes(config):
    """How many classes the config's model tells apart; of several models that learn together, the last."""
    model = config.section("MODEL")
    try:
        heads = [spec["head"] for entry in model.get("models", [{"": model}]) for spec in entry.values()]
        count = heads[-1]["num_classes"]
    except (AttributeError, IndexError, KeyError, TypeError):
        count = None
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ConfigError(config.where("MODEL"), f"found {count!r} as num_classes of its head, expected a positive "
                          "whole number")
    return count


def apply_override(content, override, source="config"):
    """Set ``A.B.c=value`` in nested dicts and lists; a new key is allowed below an existing section."""
    key_path, equals, text = override.partition("=")
    if not equals or not key_path.strip():
        raise ConfigError(f"-o {override}", "is not of the form A.B.c=value")
    value = parse_yaml(text, f"-o {override}")
    node, keys = content, key_path.strip().split(".")
    for depth, key in enumerate(keys):
        where = f"{source}: {'.'.join(keys[:depth + 1])} (from -o {override})"
        last = depth == len(keys) - 1
        if isinstance(node, list):
            if not key.lstrip("-").isdigit() or not -len(node) <= int(key) < len(node):
                raise ConfigError(where, f"{key!r} is no index of a list of {len(node)} items")
            key = int(key)
        elif not isinstance(node, dict):
            raise ConfigError(where, f"cannot go into {node!r}")
        elif key not in node and not last:
            raise ConfigError(where, f"no such key {key!r}", near_miss(key, node))
        if last:
            node[key] = value
        else:
            node = node[key]


def _meant(value, key_path, source, budget):
    """A copy in which texts that were meant as booleans, tuples or numbers are those; misspelt ones with a notice.

    Aliases of YAML become copies: an override of one place does not change another. ``budget`` holds how many values
    there may yet be, for a few lines of aliases can stand for billions.
    """
    budget[0] -= 1
    if budget[0] < 0:
        raise ConfigError(source, f"holds more than {MAX_VALUES} values once its aliases are written out")
    if isinstance(value, dict):
        return {k: _meant(v, f"{key_path}.{k}".lstrip("."), source, budget) for k, v in value.items()}
    if isinstance(value, list):
        return [_meant(v, f"{key_path}.{i}", source, budget) for i, v in enumerate(value)]
    if isinstance(value, str):
        if value.lower() in MISSPELT:
            logger.warning("%s: %s: %r is read as %s", source, key_path, value, MISSPELT[value.lower()])
            return MISSPELT[value.lower()]
        if re.fullmatch(r"\([-+\d.eE,\s]*\)", value):
            try:
                return ast.literal_eval(value)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                raise ConfigError(f"{source}: {key_path}", f"{value[:80]!r} is no tuple of numbers") from None
    elif isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise ConfigError(f"{source}: {key_path}", f"is a number of {value.bit_length()} bits")
    elif not isinstance(value, (int, float, type(None))):
        raise ConfigError(f"{source}: {key_path}", f"is a {type(value).__name__}, expected a number, a text, a list or "
                          "a mapping", "Put quotes around a text that YAML takes for something else")
    return value


def validate(config):
    """Check the structure: known sections and keys, types, positive numbers; resolve custom layouts.

    Names of models, transforms and the like are checked by the registries that know them.
    """
    for key, value in config.items():
        if key not in TOP_LEVEL:
            raise ConfigError(config.where(key), "is not a key of a config", near_miss(key, TOP_LEVEL))
        expected = TOP_LEVEL[key]
        if value is None or (isinstance(value, bool) and expected is int) or not isinstance(value, expected):
            kinds = expected if isinstance(expected, tuple) else (expected,)
            name = " or ".join("a mapping" if kind is dict else kind.__name__ for kind in kinds)
            raise ConfigError(config.where(key), f"found {value!r}, expected {name}")
    for section, known in SECTIONS.items():
        for key in config.get(section, ()):
            if key not in known:
                raise ConfigError(config.where(f"{section}.{key}"), f"is not a key of {section}",
                                  near_miss(key, known))
    for key_path in POSITIVE:
        section, _, key = key_path.rpartition(".")
        value = (config.get(section, {}) if section else config).get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(config.where(key_path), f"found {value!r}, expected a positive whole number")
    for split, steps in config.get("PIPELINE", {}).items():
        for step in _expect_mapping(config, f"PIPELINE.{split}", steps):
            if step not in PIPELINE_STEPS:
                raise ConfigError(config.where(f"PIPELINE.{split}.{step}"), "is not a step of a pipeline",
                                  near_miss(step, PIPELINE_STEPS))
    for split in SPLITS:
        if split in config.get("DATASET", {}):
            _expect_mapping(config, f"DATASET.{split}", config["DATASET"][split])
    layouts = {}
    for name, description in config.get("LAYOUT", {}).items():
        where = config.where(f"LAYOUT.{name}")
        _expect_mapping(config, f"LAYOUT.{name}", description)
        layouts[name] = get_layout({"name": name, **description}, where).to_dict()
    for section in ("MODEL", "PIPELINE"):
        _put_layouts(config.get(section), layouts)


def _expect_mapping(config, key_path, value):
    if not isinstance(value, dict):
        raise ConfigError(config.where(key_path), f"found {value!r}, expected a mapping")
    return value


def _put_layouts(node, layouts):
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        if key in LAYOUT_KEYS and isinstance(value, str) and value in layouts:
            node[key] = layouts[value]
        else:
            _put_layouts(value, layouts)


def plain(value):
    """A copy of a config's values that YAML can hold: dicts, lists, and no tuples."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def write_config(config, path, report):
    """Write a config as YAML, headed by the lines of ``report`` as comments."""
    text = "".join(f"# {line}\n" for line in report) + yaml.safe_dump(
        config, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
