"""Draws ``docs/images/rooms.png``, the picture in ``docs/architecture.md``: ``python docs/images/draw_rooms.py``.

Needs matplotlib (extra ``plot``).
"""
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

FREE, PADDLE, GROUND = "#e3eef9", "#fdebd3", "#eeeeee"
EDGES = {FREE: "#4f86c0", PADDLE: "#d08a2e", GROUND: "#888888"}

TOP, BOTTOM = 4.6, 2.0
# name: (x, y, width, height, colour, what it does)
ROOMS = {name: (x, y, 3.0, 1.5, colour, text) for name, x, y, colour, text in (
    ("importers/", 0.2, TOP, FREE, "raw files of known data sets\nand your own keypoints\n→ data sets"),
    ("data/", 0.2, BOTTOM, FREE, "files → Annotation\n→ transforms/ → array\nsynthetic/: generated samples"),
    ("training/", 4.2, TOP, PADDLE, "the loop, losses, schedules,\ndistillation, resuming,\ntesting"),
    ("models/", 4.2, BOTTOM, PADDLE, "array → logits\none file per paper\ncpu.py: as matrix products"),
    ("export/", 8.2, TOP, PADDLE, "checkpoint → export folder\nminimal/, ONNX, 8 bits:\nrun, compared, kept if right"),
    ("checkpoints/", 8.2, BOTTOM, FREE, "weights of any project,\nfitted into a model\n(paddle: fit.py only)"),
    ("inference/", 12.2, TOP, FREE, "export folder → answers:\nfiles, streams, .bin files\n(paddle: one file only)"),
    ("ascend/", 12.2, BOTTOM, FREE, "export → ONNX of fixed\nbatches → ATC → .om\n→ accuracy and speed"))}
BARS = {
    "cli/, main.py, tools/": (0.2, 6.75, 15.0, 0.85, GROUND,
                              "arguments in, one call into the package, exit status out"),
    "the ground": (0.2, 0.2, 15.0, 1.2, GROUND,
                   "errors   registry   skeleton   files   logs   yaml_reader   config_schema   config   manifest\n"
                   "workers   devices   safe_pickle   plotting   evaluation        above it: build   doctor"),
}
FLOW = [("importers/", "data/", "data set"), ("data/", "training/", "batches"),
        ("models/", "training/", "logits"), ("training/", "export/", "checkpoint"),
        ("checkpoints/", "export/", "weights"), ("export/", "inference/", "export folder"),
        ("inference/", "ascend/", "proven model")]


def box(axes, name, x, y, width, height, colour, text):
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.12", facecolor=colour,
                                  edgecolor=EDGES[colour], linewidth=1.4))
    lines = text.count("\n") + 1
    middle = y + height / 2
    axes.text(x + width / 2, middle + 0.07 + 0.15 * lines, name, ha="center", va="center", fontsize=12.5, weight="bold")
    axes.text(x + width / 2, middle - 0.17, text, ha="center", va="center", fontsize=9.2, linespacing=1.35, color="0.2")


def arrow(axes, source, target, text):
    (x0, y0, w0, h0), (x1, y1, w1, h1) = ROOMS[source][:4], ROOMS[target][:4]
    if x0 == x1:  # one above the other
        down = y0 > y1
        start, end = (x0 + w0 / 2, y0 if down else y0 + h0), (x1 + w1 / 2, y1 + h1 if down else y1)
        at, aligned = (x0 + w0 / 2 + 0.12, (start[1] + end[1]) / 2), ("left", "center")
    elif y0 == y1:
        start, end = (x0 + w0, y0 + h0 / 2), (x1, y1 + h1 / 2)
        at, aligned = ((start[0] + end[0]) / 2, start[1] + 0.1), ("center", "bottom")
    else:
        start, end = (x0 + w0, y0 + h0 - 0.15), (x1, y1 + 0.15)
        at, aligned = ((start[0] + end[0]) / 2 - 0.12, (start[1] + end[1]) / 2 + 0.1), ("right", "bottom")
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=15, color="0.35", linewidth=1.4,
                                   shrinkA=2, shrinkB=2))
    axes.text(*at, text, ha=aligned[0], va=aligned[1], fontsize=8.6, color="0.35", style="italic")


def main():
    figure = Figure(figsize=(13.2, 7.0), dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    axes.set(xlim=(0, 15.4), ylim=(0, 8.2))
    axes.set_axis_off()
    for name, room in {**ROOMS, **BARS}.items():
        box(axes, name, *room)
    for step in FLOW:
        arrow(axes, *step)
    for x, colour, text in ((0.2, FREE, "no paddle, except where noted"), (4.2, PADDLE, "imports paddle")):
        axes.add_patch(FancyBboxPatch((x, 7.8), 0.35, 0.24, boxstyle="round,pad=0,rounding_size=0.05",
                                      facecolor=colour, edgecolor=EDGES[colour]))
        axes.text(x + 0.5, 7.92, text, va="center", fontsize=9.5)
    figure.savefig(Path(__file__).with_name("rooms.png"))


if __name__ == "__main__":
    main()
