"""Convert a checkpoint of another project into weights and a config for this one, as files."""
import importlib.util
import logging
from pathlib import Path

from ..config import Config, load_config, write_config
from ..config_schema import validate
from ..errors import CheckpointError, ConfigError
from .fit import fit_weights, save_state
from .foreign import convert_state, is_foreign
from .load import WEIGHTS_FORMATS, read_weights

logger = logging.getLogger(__name__)


def convert_checkpoint(path, output, kind=None, config=None, layout=None):
    """Convert a checkpoint; of a file that already has PaddleVideo's names, only the format changes.

    Args:
        path: PyTorch's, ``.safetensors`` or ``.pdparams``.
        output: weights to write; the suffix of ``kind`` is added if it is missing.
        kind: ``pdparams`` or ``safetensors``; None: by the suffix of ``output``, or ``pdparams``.
        config: config to write; None: next to the output, ``.yaml``.
        layout: a layout's name, or a YAML file with one under LAYOUT; None: the known one whose adjacency is in the
            checkpoint.

    Returns:
        paths of the weights and of the config, or None where no config was needed.

    Raises:
        CheckpointError, ConfigError: see ``read_weights`` and ``foreign.convert``; nothing is written then.
    """
    output = Path(output)
    kind = kind or (output.suffix[1:] if output.suffix[1:] in WEIGHTS_FORMATS else WEIGHTS_FORMATS[0])
    if output.suffix != f".{kind}":
        output = output.with_name(f"{output.name}.{kind}")
    state, words = read_weights(path)
    logger.info("%s: %s", path, "; ".join(words))
    if not is_foreign(state):
        if config or layout:
            raise CheckpointError(path, "already uses PaddleVideo's names: only its format can be changed",
                                  "Omit --config and --layout")
        save_state(state, output)
        logger.info("%s: the same weights, %d tensors", output, len(state))
        return output, None
    weights, content, report = convert_state(state, path, _layout(layout))
    for line in report:
        logger.info("%s", line)
    config = Path(config) if config else output.with_suffix(".yaml")
    report.append(_try(content, config, weights, output))
    logger.info("%s", report[-1])
    save_state(weights, output)
    write_config(content, config, [f"Made from {Path(path).name} by tools/convert_weights.py.", *report,
                                   "Data, pipeline and training settings come from a packaged config: adapt them."])
    logger.info("Weights written to %s, config to %s", output, config)
    return output, config


def _layout(text):
    """The layout's name, or the single description in a YAML file."""
    if not text or Path(text).suffix not in (".yaml", ".yml"):
        return text
    layouts = load_config(text).get("LAYOUT", {})
    if len(layouts) != 1:
        raise ConfigError(f"--layout {text}", f"found {len(layouts)} layouts under LAYOUT, expected one")
    (name, description), = layouts.items()
    return {"name": name, **description}


def _try(content, path, weights, where):
    """Build the config's model and load the weights into it, if paddle is installed; returns a line for the report."""
    config = Config(content)
    config.source = str(path)
    validate(config)
    if importlib.util.find_spec("paddle") is None:
        return "Paddle is not installed: the weights were not tested in the model."
    from ..build import build_recognizer, input_shape

    model = build_recognizer(config)
    fit_weights(model, weights, where)
    try:
        shape = input_shape(config, model)
    except ConfigError as error:
        return f"The weights fit the model, but the packaged pipeline does not; adapt it: {error.problem}."
    return f"The weights fit the config's model, and its pipeline makes samples of shape {shape}."
