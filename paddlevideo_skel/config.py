"""Read configs: PaddleVideo's YAML, overrides, and errors that name the file and the key path.

PaddleVideo's skeleton configs load unchanged.
"""
from pathlib import Path

import yaml

from .config_schema import DEFAULTS, validate
from .errors import ConfigError, near_miss
from .files import is_file, replacing
from .yaml_reader import parse_yaml

# Old names of packaged configs.
ALIASES = {"recognition/posec3d/posec3d_ucf101.yaml": "recognition/posec3d/posec3d.yaml"}


class Config(dict):
    """A config: a dict that knows its file, ``source``."""

    source = "config"

    def where(self, key_path):
        """``file: KEY.PATH`` for messages."""
        return f"{self.source}: {key_path}"

    def value(self, key_path):
        """The value at a dotted key path, or the default of ``config_schema``."""
        section, _, key = key_path.rpartition(".")
        return (self.get(section, {}) if section else self).get(key, DEFAULTS[key_path])

    def section(self, key_path):
        """The value at a dotted key path; an error that names the path if it is absent."""
        node = self
        for i, key in enumerate(parts := key_path.split(".")):
            if not isinstance(node, dict) or node.get(key) is None:
                raise ConfigError(self.where(".".join(parts[:i + 1])), "is missing", "Add it to the config")
            node = node[key]
        return node


def find_config(path):
    """The config file for a path: as given, or among the configs that are installed with the package."""
    given = Path(path)
    if given.is_file():
        return given
    for alias, name in ALIASES.items():
        if given.as_posix().endswith(alias):
            given = Path(given.as_posix().removesuffix(alias) + name)
            if given.is_file():
                return given
    package = Path(__file__).parent
    relative = Path(*given.parts[1:]) if given.parts[:1] == ("configs",) else given
    for root in (package / "configs", package.parent / "configs"):
        if ".." not in relative.parts and (root / relative).is_file():
            return root / relative
    names = [p.name for p in given.parent.glob("*.y*ml")] if given.parent.is_dir() else []
    raise ConfigError(path, "file not found", near_miss(given.name, names) if names else
                      "Pass the path of a YAML file, or of a packaged one such as "
                      "configs/recognition/ctrgcn/ctrgcn_ntucs_joint.yaml")


def load_config(path, overrides=()):
    """Read, override and check a config.

    Args:
        path: YAML file; ``configs/…`` is also looked up among the installed configs.
        overrides: strings ``A.B.c=value``; list items by index.

    Returns:
        ``Config``, in which custom layouts (section ``LAYOUT``: name → description) replace their names wherever
        ``layout``, ``graph`` or ``dataset`` name them.

    Raises:
        ConfigError: with the file, the key path and near misses.
    """
    path = find_config(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(path, f"cannot be read ({getattr(error, 'strerror', None) or error})") from error
    content = parse_yaml(text, path)
    if not isinstance(content, dict):
        raise ConfigError(path, f"found a {type(content).__name__}, expected key: value pairs")
    for override in overrides:
        apply_override(content, override, path)
    config = Config(content)
    config.source = str(path)
    validate(config)
    return config


def class_names(config, num_classes):
    """Names from the config's ``class_names`` (a list, or the path of a text file with one per line), or None."""
    names = config.get("class_names")
    if isinstance(names, str):
        path = next((path for path in (Path(names), Path(config.source).parent / names) if is_file(path)), None)
        if path is None:
            raise ConfigError(config.where("class_names"), f"file not found: {names[:80]!r}", "Pass a list of names, "
                              "or a path relative to the working directory or to the config's folder")
        try:
            names = path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(config.where("class_names"), f"{path} cannot be read ({error})") from error
        names = [name.strip() for name in names if name.strip()]
    if names is not None and len(names) != num_classes:
        raise ConfigError(config.where("class_names"), f"found {len(names)} names, expected {num_classes}")
    return None if names is None else [str(name) for name in names]


def num_classes(config):
    """The number of classes of the config's model; for several models trained together, of the last one."""
    model = config.section("MODEL")
    try:
        heads = [spec["head"] for entry in model.get("models", [{"": model}]) for spec in entry.values()]
        count = heads[-1]["num_classes"]
    except (AttributeError, IndexError, KeyError, TypeError):
        count = None
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ConfigError(config.where("MODEL"), f"found num_classes {count!r} of its head, expected a positive "
                          "whole number")
    return count


def apply_override(content, override, source="config"):
    """Set ``A.B.c=value`` in nested dicts and lists; a new key is allowed below an existing section."""
    key_path, equals, text = override.partition("=")
    if not equals or not key_path.strip():
        raise ConfigError(f"-o {override}", "expected the form A.B.c=value")
    value = parse_yaml(text, f"-o {override}")
    node, keys = content, key_path.strip().split(".")
    for depth, key in enumerate(keys):
        where = f"{source}: {'.'.join(keys[:depth + 1])} (from -o {override})"
        last = depth == len(keys) - 1
        if isinstance(node, list):
            if not key.lstrip("-").isdigit() or not -len(node) <= int(key) < len(node):
                raise ConfigError(where, f"found {key!r}, expected an index of a list of {len(node)} items")
            key = int(key)
        elif not isinstance(node, dict):
            raise ConfigError(where, f"{node!r} has no keys")
        elif key not in node and not last:
            raise ConfigError(where, f"unknown key {key!r}", near_miss(key, node))
        if last:
            node[key] = value
        else:
            node = node[key]


def plain(value):
    """A copy of a config's values that YAML can hold: dicts, lists, and no tuples."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def write_config(config, path, report):
    """Write a config as YAML, with the lines of ``report`` as comments at the top."""
    text = "".join(f"# {line}\n" for line in report) + yaml.safe_dump(
        config, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
