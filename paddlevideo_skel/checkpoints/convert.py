"""From a checkpoint of another project to weights and a config for this one, as files."""
import importlib.util
import logging
from pathlib import Path

from ..config import Config, load_config, validate, write_config
from ..errors import CheckpointError, ConfigError
from .foreign import convert, is_foreign
from .load import FORMATS, fit_weights, read_weights, save_state

logger = logging.getLogger(__name__)


def convert_checkpoint(path, output, kind=None, config=None, layout=None):
    """Convert a checkpoint; a file with PaddleVideo's names already only changes its format.

    Args:
        path: PyTorch's, ``.safetensors`` or ``.pdparams``.
        output: weights to write; the suffix of ``kind`` is added where it is missing.
        kind: ``pdparams`` or ``safetensors``; None: as the output's name says, or ``pdparams``.
        config: config to write; None: beside the output, ``.yaml``.
        layout: a layout's name, or a YAML file with one under LAYOUT; None: the known one that the checkpoint has.

    Returns:
        paths of the weights and of the config, which is None where none was needed.

    Raises:
        CheckpointError, ConfigError: see ``read_weights`` and ``weights.convert``; nothing is written then.
    """
    output = Path(output)
    kind = kind or (output.suffix[1:] if output.suffix[1:] in FORMATS else FORMATS[0])
    if output.suffix != f".{kind}":
        output = output.with_name(f"{output.name}.{kind}")
    state, words = read_weights(path)
    logger.info("%s: %s", path, "; ".join(words))
    if not is_foreign(state):
        if config or layout:
            raise CheckpointError(path, "has PaddleVideo's names already: only its format is changed",
                                  "Leave out --config and --layout")
        save_state(state, output)
        logger.info("%s: the same weights, %d tensors", output, len(state))
        return output, None
    weights, content, report = convert(state, path, _layout(layout))
    for line in report:
        logger.info("%s", line)
    config = Path(config) if config else output.with_suffix(".yaml")
    report.append(_tried(content, config, weights, output))
    logger.info("%s", report[-1])
    save_state(weights, output)
    write_config(content, config, [f"Made from {Path(path).name} by tools/convert_weights.py.", *report,
                                   "Data, pipeline and recipe are the packaged config's: make them your own."])
    logger.info("Weights written to %s, config to %s", output, config)
    return output, config


def _layout(text):
    """The layout's name, or the one description in a YAML file."""
    if not text or Path(text).suffix not in (".yaml", ".yml"):
        return text
    described = load_config(text).get("LAYOUT", {})
    if len(described) != 1:
        raise ConfigError(f"--layout {text}", f"describes {len(described)} layouts under LAYOUT, expected one")
    (name, description), = described.items()
    return {"name": name, **description}


def _tried(content, path, weights, where):
    """Build the config's model and put the weights into it, where paddle is installed; returns what came of it."""
    config = Config(content)
    config.source = str(path)
    validate(config)
    if importlib.util.find_spec("paddle") is None:
        return "Paddle is not installed here: the weights were not tried in the model."
    from ..build import build_recognizer, input_shape

    model = build_recognizer(config)
    fit_weights(model, weights, where)
    try:
        shape = input_shape(config, model)
    except ConfigError as error:
        return f"The weights fit the model, but the packaged pipeline does not; make it your own: {error.problem}."
    return f"The weights fit the config's model, and its pipeline makes samples of {shape}."
