"""The chip: its name for ``atc --soc_version``."""
import re
import shutil
import subprocess

from ..errors import ConfigError, UnavailableError

TIME_LIMIT = 60  # seconds
PREFIX = "Ascend"
# A device's first row begins with its number and its name, and goes on with its health; so the rows of its chips, of
# the heading and of the processes are told apart. Healths as Huawei's manual of npu-smi lists them.
DEVICE = r"^\| *[0-9]+ +([^ |]+) *\| *(OK|Warning|Alarm|Critical|UNKNOWN)( |\|)"
# Families whose members npu-smi shows under one name. By the manual of ATC, a member's full name is then the chip's
# name and the NPU's, as `npu-smi info -t board -i ID -c CHIP` tells them: Ascend910_9392.
FAMILIES = ("Ascend910", "Ascend310B")
ASK = "Give it: --soc_version Ascend310P3"


def soc_version(name):
    """``Ascend310P3`` of a chip's name with or without the prefix.

    Raises:
        ConfigError: it is no name of a chip.
    """
    version = name if name.startswith(PREFIX) else PREFIX + name
    if not re.fullmatch(PREFIX + r"[0-9][0-9A-Za-z_-]*", version):
        raise ConfigError("--soc_version", f"found {name!r}, expected a name like Ascend310P3",
                          "npu-smi info shows it on the host with the chip")
    return version


def parse(text):
    """Names of the devices in what ``npu-smi info`` prints, in order, each once."""
    found = [match[1] for match in re.finditer(DEVICE, text, re.MULTILINE)]
    return [soc_version(name) for name in dict.fromkeys(found)]


def find_soc():
    """The chip of this host.

    Raises:
        UnavailableError: npu-smi is not here, fails, shows no chip, or leaves open which it is.
    """
    if shutil.which("npu-smi") is None:
        raise UnavailableError("--soc_version", "npu-smi is not here to tell the chip", ASK)
    try:
        done = subprocess.run(["npu-smi", "info"], capture_output=True, text=True, errors="replace",
                              timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        raise UnavailableError("npu-smi info", f"took more than {TIME_LIMIT} s", ASK) from None
    except OSError as error:
        raise UnavailableError("npu-smi info", f"cannot be run ({error.strerror})", ASK) from error
    versions = parse(done.stdout)
    if done.returncode or not versions:
        printed = " ".join((done.stdout + done.stderr).split())[:200] or "nothing"
        raise UnavailableError("npu-smi info", f"shows no chip (status {done.returncode}): {printed}", ASK)
    if len(versions) > 1:
        raise UnavailableError("npu-smi info", f"shows several kinds of chips: {', '.join(versions)}",
                               "Say for which one: --soc_version NAME")
    if versions[0] in FAMILIES:
        raise UnavailableError("npu-smi info", f"shows {versions[0]}, which is the name of a family", "npu-smi info -t "
                               "board -i ID -c CHIP tells the chip's and the NPU's name: --soc_version CHIP_NPU")
    return versions[0]
