"""Train, validate and test: the command that PaddleVideo's users know."""
import sys

from paddlevideo_skel.cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("train", script="main.py"))
