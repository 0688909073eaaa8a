"""What every model is and costs: ``python benchmarks/model_zoo.py`` prints the table of ``docs/models.md``.

Each config's model is built, exported ordinary and minimal, and converted to ONNX, with deterministic weights: sizes
and costs do not depend on them. Every export and conversion is compared with the dynamic graph on the way.
"""
import argparse
import tempfile
from pathlib import Path

from exports import build

from paddlevideo_skel import devices
from paddlevideo_skel.cli import load_paddle

# Config under configs/recognition (of streams that differ in features only, the joints'), published top-1 (top-5),
# and where that was published.
PYSKL = "pyskl's model zoo"
PADDLEVIDEO = "PaddleVideo's model zoo"
ROWS = (
    ("stgcn/stgcn_ntucs.yaml", "82.28", PADDLEVIDEO),
    ("stgcn/stgcn_kinetics.yaml", "31.6 (53.7)", "Ascend ModelZoo, from st-gcn's weights"),
    ("stgcn/stgcn_pphuman.yaml", "", ""),
    ("stgcn_plusplus/stgcn_plusplus_ntucs.yaml", "97.56 (99.97)", "ST-GCN++ reproduced in PaddleVideo"),
    ("stgcn_plusplus/stgcn_plusplus_ntu3d_joint.yaml", "89.3", PYSKL),
    ("ctrgcn/ctrgcn_ntucs_joint.yaml", "89.93", PADDLEVIDEO),
    ("ctrgcn/ctrgcn_lite_ntucs_joint_dml.yaml", "90.87", "the PaddleVideo fork that made it"),
    ("posec3d/posec3d_hmdb51.yaml", "69.22 (91.31)", "Ascend ModelZoo, from mmaction2's weights"),
    ("posec3d/posec3d.yaml", "87.05", PADDLEVIDEO),
)
MB = 1e6


def measure(path, folder):
    """The measured columns of one config."""
    from paddlevideo_skel.export.exporter import export_model
    from paddlevideo_skel.export.onnx_model import count_multiplications

    config, model = build(path)
    sizes, errors = [], []
    for kind in ("ordinary", "minimal"):
        export = export_model(config, model, folder / kind, "model", kind, to_onnx=kind == "ordinary")
        sizes.append(sum(file.stat().st_size for file in (folder / kind).iterdir() if file.suffix != ".onnx"))
        errors += export.metadata["verified"]["relative_error"].values()
        if kind == "ordinary":
            metadata, cost = export.metadata, count_multiplications(export.file(".onnx"))
            errors += metadata["onnx"]["relative_error"].values()
    clips = metadata["clips"]
    return {"model": metadata["backbone"], "classes": metadata["output"]["num_classes"], "clips": clips,
            "input": metadata["input"]["shape"][1:], "parameters": metadata["parameters"], "macs": cost / clips,
            "sizes": sizes, "error": max(errors)}


def main():
    """Print a row a config."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("only", nargs="*", help="parts of config names; default: all")
    args = parser.parse_args()
    devices.prepare_cpu()
    load_paddle()
    print("| config | model | classes | input | parameters, M | GMAC a clip | ordinary, MB | minimal, MB | "
          "published top-1 (top-5), % | source | exports and ONNX against the dynamic graph |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for path, published, source in ROWS:
        if args.only and not any(part in path for part in args.only):
            continue
        with tempfile.TemporaryDirectory() as folder:
            row = measure(path, Path(folder))
        print(f"| `{path}` | {row['model']} | {row['classes']} | {'×'.join(map(str, row['input']))} | "
              f"{row['parameters'] / 1e6:.2f} | {row['macs'] / 1e9:.2f} | {row['sizes'][0] / MB:.2f} | "
              f"{row['sizes'][1] / MB:.2f} | {published or '–'} | {source or '–'} | {row['error']:.0e} |", flush=True)


if __name__ == "__main__":
    main()
