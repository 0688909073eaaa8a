"""docs/export.md: the streaming program runs as it is shown. (That of oneDNN: tests/inference/test_onednn.py.)"""
import numpy as np
from pages import blocks
from tiny_export import SAMPLE, write_export

from paddlevideo_skel.logs import close_logging


def test_the_streaming_program_runs(tmp_path, capsys):
    write_export(tmp_path, pipeline={"transform": [{"Iden": None}]})
    program = next(block for block in blocks("docs/export.md", "python") if "StreamingPredictor" in block)
    program = program.replace('"EXPORT"', repr(str(tmp_path))).replace("window=64", f"window={SAMPLE[1]}")
    camera = np.random.default_rng(0).normal(1, 0.1, (12, SAMPLE[3], SAMPLE[2], SAMPLE[0]))
    close_logging()  # that of a command which another test ran
    exec(program, {"camera": camera})
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[:3]] == ["3", "7", "11"]
    assert "'answers': 3" in printed[3]
