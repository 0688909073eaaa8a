"""A layout named on a command line: a known name, or a YAML or JSON file that describes one."""
from pathlib import Path

from ..errors import ConfigError
from ..skeleton import get_layout
from ..yaml_reader import parse_yaml
from .tables import read_text

SUFFIXES = (".yaml", ".yml", ".json")


def read_layout(text):
    """The ``Layout`` of a name, or of a file with joints, bones and center, or with one such under LAYOUT.

    Raises:
        ConfigError: an unknown name, or a description that is no connected skeleton.
        DataError: the file cannot be read.
    """
    path = Path(text)
    if path.suffix.lower() not in SUFFIXES:
        return get_layout(text, "--layout")
    content = parse_yaml(read_text(path), path)
    name = path.stem
    if isinstance(content, dict) and "LAYOUT" in content:
        described = content["LAYOUT"]
        if not isinstance(described, dict) or len(described) != 1:
            raise ConfigError(f"{path}: LAYOUT", f"is {str(described)[:80]}, expected one name with its description")
        (name, content), = described.items()
    if not isinstance(content, dict):
        raise ConfigError(path, f"describes a layout as {str(content)[:80]!r}, expected joints, bones and center")
    return get_layout({"name": str(name), **content}, str(path))
