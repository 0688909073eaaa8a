"""The keys of a config, their types and their defaults; checks of its structure.

Names of models, transforms and the like are checked by the registries that know them.
"""
from .errors import ConfigError, near_miss
from .skeleton import get_layout

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
DEFAULT_SEED = 1234  # of training, and of random steps in a test pipeline: every command gives the same results
# The values of keys that a config omits; other keys have none, except output_dir: ./output/<model_name>.
DEFAULTS = {
    "seed": DEFAULT_SEED,
    "log_interval": 10,  # steps
    "log_level": "INFO",
    "save_interval": 1,  # epochs
    "val_interval": 1,  # epochs
    "save_every": "10m",  # within an epoch; the state is always saved at its end
    "sync_bn": False,
    "DATASET.batch_size": 8,  # per device
    "DATASET.num_workers": 0,
    "OPTIMIZER.momentum": 0.9,
    "OPTIMIZER.use_nesterov": False,
    "METRIC": {"name": "SkeletonMetric"},
    "PRECISEBN.num_iters_preciseBN": 200,
    "INFERENCE.person_nums": 1,
    "INFERENCE.top_k": 1,
}
PIPELINE_STEPS = ("decode_sampler", "decode", "sample", "transform")
POSITIVE = {"epochs", "keep", "log_interval", "save_interval", "val_interval", "DATASET.batch_size",
            "DATASET.valid_batch_size", "DATASET.test_batch_size", "INFERENCE.window_size", "INFERENCE.person_nums"}
LAYOUT_KEYS = ("layout", "graph", "dataset")


def validate(config):
    """Check sections, keys, types and positive numbers; replace the names of custom layouts by the layouts.

    Raises:
        ConfigError: with the file, the key path and near misses.
    """
    for key, value in config.items():
        if key not in TOP_LEVEL:
            raise ConfigError(config.where(key), "unknown key", near_miss(key, TOP_LEVEL))
        expected = TOP_LEVEL[key]
        if value is None or (isinstance(value, bool) and expected is int) or not isinstance(value, expected):
            kinds = expected if isinstance(expected, tuple) else (expected,)
            name = " or ".join("a mapping" if kind is dict else kind.__name__ for kind in kinds)
            raise ConfigError(config.where(key), f"found {value!r}, expected {name}")
    for section, known in SECTIONS.items():
        for key in config.get(section, ()):
            if key not in known:
                raise ConfigError(config.where(f"{section}.{key}"), f"unknown key of {section}",
                                  near_miss(key, known))
    for key_path in POSITIVE:
        section, _, key = key_path.rpartition(".")
        value = (config.get(section, {}) if section else config).get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(config.where(key_path), f"found {value!r}, expected a positive integer")
    for split, steps in config.get("PIPELINE", {}).items():
        for step in _expect_mapping(config, f"PIPELINE.{split}", steps):
            if step not in PIPELINE_STEPS:
                raise ConfigError(config.where(f"PIPELINE.{split}.{step}"), "unknown step of a pipeline",
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
