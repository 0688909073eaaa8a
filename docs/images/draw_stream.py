"""Draws ``docs/images/stream.png``: five actions as one stream, and the scores that a model gave them.

    python docs/images/draw_stream.py answers.jsonl

``answers.jsonl`` is what ``paddlevideo-skel stream --top_k 5 -o answers.jsonl`` writes for the stream that
``docs/tutorial.md`` generates. Needs matplotlib (extra ``plot``).
"""
import json
import sys
from pathlib import Path

import numpy as np
from matplotlib.collections import LineCollection

from paddlevideo_skel.data.synthetic.samples import generate
from paddlevideo_skel.plotting import saved_figure
from paddlevideo_skel.skeleton import get_layout

ACTIONS = ("clap", "kick", "sit_down", "stand_up", "wave")
SIDES = {"left": "tab:blue", "right": "tab:orange", "middle": "0.35"}
CLASSES = dict(zip(ACTIONS, ("#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#66a61e")))
POSES = 3  # of each action


def side(layout, bone):
    """Which side of the body a bone is on."""
    return next((name for name in ("left", "right") if set(bone) & set(getattr(layout, name))), "middle")


def draw_pose(axes, layout, joints, seen, frame):
    """A stick figure at a frame; its feet are at 0 and it is as wide as it is high in the picture."""
    points = (joints - [joints[seen, 0].mean(), 800]) * [0.052, -1 / 720] + [frame, 0]
    bones = [bone for bone in layout.bones if seen[list(bone)].all()]
    axes.add_collection(LineCollection([points[list(bone)] for bone in bones], linewidths=2, capstyle="round",
                                       colors=[SIDES[side(layout, bone)] for bone in bones]))


def main(answers):
    answers = [json.loads(line) for line in Path(answers).read_text().splitlines()]
    at = [answer["frame"] for answer in answers]
    layout, begin = get_layout("coco"), 0
    with saved_figure(Path(__file__).with_name("stream.png"), 11, 4.4) as figure:
        top, bottom = figure.subplots(2, 1, height_ratios=(1, 1), sharex=True)
        for recording, (action, colour) in zip(generate(1, "coco", 1, ACTIONS, frames=(45, 60), bystander=0),
                                               CLASSES.items()):
            length = recording.total_frames
            for share in (np.arange(POSES) + 0.55) / POSES:
                frame = int(share * length)
                draw_pose(top, layout, recording.keypoint[0, frame], recording.keypoint_score[0, frame] > 0.3,
                          begin + frame)
            top.text(begin + length / 2, 0.98, action.replace("_", " "), ha="center", color=colour, fontsize=12)
            for axes in (top, bottom):
                axes.axvspan(begin + 0.5, begin + length - 0.5, color=colour, alpha=0.07, linewidth=0)
            scores = [next((best["score"] for best in answer["top_k"] if best["name"] == action), 0.0)
                      for answer in answers]
            bottom.plot(at, scores, color=colour, linewidth=2.2)
            begin += length
        top.set(ylim=(-0.15, 1.12))
        top.set_axis_off()
        bottom.set(xlim=(0, begin), ylim=(-0.03, 1.03), xlabel="frame", ylabel="score")
        bottom.text(at[0] / 2, 0.5, "no answer before\nthe first window of\n48 frames is full",
                    ha="center", va="center", color="0.5", fontsize=9)
        for spine in ("top", "right"):
            bottom.spines[spine].set_visible(False)


if __name__ == "__main__":
    main(*sys.argv[1:])
