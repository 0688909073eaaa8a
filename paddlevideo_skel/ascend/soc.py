"""The name of the chip for ``atc --soc_version``, as given or from ``npu-smi``."""
import re
import shutil
import subprocess

from ..errors import ConfigError, UnavailableError

NPU_SMI_TIME_LIMIT = 60  # seconds
CHIP_PREFIX = "Ascend"
# The first row of a device has its number, name and health, unlike the rows of chips, headings and
# processes. The values of health are from Huawei's manual of npu-smi.
DEVICE = r"^\| *[0-9]+ +([^ |]+) *\| *(OK|Warning|Alarm|Critical|UNKNOWN)( |\|)"
# Families whose members npu-smi shows under one name. By ATC's manual the full name is then the chip's name and the
# NPU's, as shown by `npu-smi info -t board -i ID -c CHIP`: Ascend910_9392.
FAMILIES = ("Ascend910", "Ascend310B")
GIVE_SOC = "Pass it, e.g. --soc_version Ascend310P3"


def normalise_soc(name):
    """A chip's name with the prefix, ``Ascend310P3`` for ``310P3``.

    Raises:
        ConfigError: it cannot be the name of a chip.
    """
    version = name if name.startswith(CHIP_PREFIX) else CHIP_PREFIX + name
    if not re.fullmatch(CHIP_PREFIX + r"[0-9][0-9A-Za-z_-]*", version):
        raise ConfigError("--soc_version", f"found {name!r}, expected a name like Ascend310P3",
                          "npu-smi info shows it on the host with the chip")
    return version


def parse_npu_smi(text):
    """Different names of devices in the output of ``npu-smi info``, in order."""
    found = [match[1] for match in re.finditer(DEVICE, text, re.MULTILINE)]
    return [normalise_soc(name) for name in dict.fromkeys(found)]


def find_soc():
    """The chip of this host.

    Raises:
        UnavailableError: npu-smi is not installed, fails, or does not show exactly one kind of chip.
    """
    if shutil.which("npu-smi") is None:
        raise UnavailableError("--soc_version", "the chip is unknown because npu-smi is not installed", GIVE_SOC)
    try:
        done = subprocess.run(["npu-smi", "info"], capture_output=True, text=True, errors="replace",
                              timeout=NPU_SMI_TIME_LIMIT)
    except subprocess.TimeoutExpired:
        raise UnavailableError("npu-smi info", f"took more than {NPU_SMI_TIME_LIMIT} s", GIVE_SOC) from None
    except OSError as error:
        raise UnavailableError("npu-smi info", f"cannot be run ({error.strerror})", GIVE_SOC) from error
    versions = parse_npu_smi(done.stdout)
    if done.returncode or not versions:
        printed = " ".join((done.stdout + done.stderr).split())[:200] or "nothing"
        raise UnavailableError("npu-smi info", f"shows no chip (status {done.returncode}): {printed}", GIVE_SOC)
    if len(versions) > 1:
        raise UnavailableError("npu-smi info", f"shows several chip types: {', '.join(versions)}",
                               "Choose one: --soc_version NAME")
    if versions[0] in FAMILIES:
        raise UnavailableError("npu-smi info", f"shows {versions[0]}, which is a chip family, not a chip",
                               "npu-smi info -t board -i ID -c CHIP shows the names of the chip and the NPU; pass "
                               "--soc_version CHIP_NPU")
    return versions[0]
