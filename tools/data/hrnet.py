import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from paddlevideo_skel.cli import run_command

    sys.exit(run_command("import-hrnet", script="tools/data/hrnet.py"))
