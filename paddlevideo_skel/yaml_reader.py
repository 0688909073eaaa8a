"""Read YAML as PaddleVideo's configs use it, safely and within limits.

Two quirks of those configs are read as intended: misspelt booleans (``Fasle``) and tuples written as text
(``(-1, 64)``). PaddleVideo itself reads ``Fasle`` as a non-empty text and therefore as *true*, so its bone and
motion configs silently train on joints.
"""
import ast
import logging
import re

import yaml

from .errors import ConfigError

logger = logging.getLogger(__name__)

MISSPELT = {"fasle": False, "flase": False, "fales": False, "ture": True, "treu": True}
MAX_CHARACTERS, MAX_VALUES, MAX_BITS, MAX_DEPTH = 64 << 10, 100_000, 1024, 50


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads ``5e-4`` as a number and warns of duplicate keys."""

    source = "config"

    def fetch_flow_collection_start(self, token_class):
        # PyYAML scans all open brackets at every token: with thousands of them it would take very long.
        if self.flow_level >= MAX_DEPTH:
            raise yaml.scanner.ScannerError(None, None, f"more than {MAX_DEPTH} nested brackets", self.get_mark())
        super().fetch_flow_collection_start(token_class)

    def flatten_mapping(self, node):
        super().flatten_mapping(node)
        if len(node.value) > MAX_VALUES:
            raise yaml.constructor.ConstructorError(None, None, f"more than {MAX_VALUES} merged keys",
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
                # PaddleVideo's own configs do this; PyYAML silently uses the last.
                logger.warning("%s:%d: duplicate key %r, the last one is used", loader.source,
                               key_node.start_mark.line + 1, key)
            seen.add(key)
    loader.flatten_mapping(node)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def parse_yaml(text, source):
    """Parse a YAML text into dicts, lists and scalars; see ``_correct`` for what is corrected.

    Raises:
        ConfigError: it is not YAML, too long, or has tags, dates or numbers that no config needs.
    """
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(source, f"has {len(text)} characters, expected at most {MAX_CHARACTERS}",
                          "class_names can be the path of a text file, one name per line")
    try:
        loader = _Loader(text)
        loader.source = source
        content = loader.get_single_data()
    except yaml.YAMLError as error:
        raise ConfigError(source, "is not valid YAML: " + " ".join(str(error).split())) from error
    except Exception as error:
        # PyYAML converts any text that a tag calls a number or a date, and fails with any kind of exception.
        raise ConfigError(source, f"cannot be read as a config ({type(error).__name__}: {error})") from None
    try:
        return _correct(content, "", source, [MAX_VALUES])
    except RecursionError:
        raise ConfigError(source, "is nested too deeply, or an alias refers to its own parent") from None


def _correct(value, key_path, source, budget):
    """A copy in which strings become the booleans and tuples that their authors meant.

    YAML aliases become copies, so that overriding one place does not change another. ``budget`` holds the number of
    values that are still allowed, because a few lines of aliases can expand to billions.
    """
    budget[0] -= 1
    if budget[0] < 0:
        raise ConfigError(source, f"expected at most {MAX_VALUES} values, with its aliases expanded")
    if isinstance(value, dict):
        return {k: _correct(v, f"{key_path}.{k}".lstrip("."), source, budget) for k, v in value.items()}
    if isinstance(value, list):
        return [_correct(v, f"{key_path}.{i}", source, budget) for i, v in enumerate(value)]
    if isinstance(value, str):
        if value.lower() in MISSPELT:
            logger.warning("%s: %s: %r is read as %s", source, key_path, value, MISSPELT[value.lower()])
            return MISSPELT[value.lower()]
        if re.fullmatch(r"\([-+\d.eE,\s]*\)", value):
            try:
                return ast.literal_eval(value)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                raise ConfigError(f"{source}: {key_path}", f"found {value[:80]!r}, expected a tuple of "
                                  "numbers") from None
    elif isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise ConfigError(f"{source}: {key_path}", f"found a number of {value.bit_length()} bits, "
                          f"expected at most {MAX_BITS}")
    elif not isinstance(value, (int, float, type(None))):
        raise ConfigError(f"{source}: {key_path}", f"found a {type(value).__name__}, expected a number, a string, a "
                          "list or a mapping", "Put strings that YAML takes for something else in quotes")
    return value
