"""The chain tests of PaddlePaddle's users (TIPC): what the scripts of ``test_tipc/`` do.

A params file becomes rows, a row is a command; each is run, skipped with a reason, or fails. ``run.py`` is the entry
point.
"""
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "test_tipc"
MODES = ("lite_train_lite_infer", "lite_train_whole_infer", "whole_train_whole_infer", "whole_infer")
