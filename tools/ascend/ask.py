"""What the scripts here ask the package: ``devices`` prints kind and number, ``rate CONFIG LR`` an override."""
import sys
from pathlib import Path

BASE_RATES = ("learning_rate", "step_base_lr", "cosine_base_lr")


def devices():
    """``npu 8``, ``gpu 1`` … one per line, in the order of preference of training."""
    from paddlevideo_skel.cli import load_paddle

    load_paddle()
    import paddle

    from paddlevideo_skel.devices import DEVICES, count_devices

    for kind in DEVICES:
        print(kind, count_devices(paddle, kind))


def rate(path, value):
    """The ``-o`` that makes ``value`` the highest learning rate of a config's schedule."""
    from paddlevideo_skel.config import load_config
    from paddlevideo_skel.errors import ConfigError

    config = load_config(path)
    where = "OPTIMIZER.learning_rate"
    try:
        number = float(value)
    except ValueError:
        raise ConfigError("--lr", f"found {value!r}, expected a number") from None
    if not 0 < number < float("inf"):
        raise ConfigError("--lr", f"found {value!r}, expected a number > 0")
    schedule = config.section(where)
    if not isinstance(schedule, dict):
        print(f"{where}={number}")
    elif isinstance(schedule.get("values"), list) and schedule["values"]:
        print(f"{where}.values={[old / schedule['values'][0] * number for old in schedule['values']]}")
    else:
        key = next((key for key in BASE_RATES if key in schedule), None)
        if key is None:
            raise ConfigError("--lr", f"{config.where(where)}: expected one of {', '.join(BASE_RATES)}, values",
                              f"Use -- -o {where}.…=…")
        print(f"{where}.{key}={number}")


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from paddlevideo_skel.errors import SkelError

    try:
        {"devices": devices, "rate": rate}[sys.argv[1]](*sys.argv[2:])
    except SkelError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
