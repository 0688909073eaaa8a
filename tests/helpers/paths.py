"""Where things are."""
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs" / "recognition"
GOLDEN = ROOT / "tests" / "golden"
# Real data sets that are not part of the repository; tests that need them are skipped without.
SHARED = Path(os.environ.get("PVSKEL_SHARED", ROOT.parent / "shared"))
