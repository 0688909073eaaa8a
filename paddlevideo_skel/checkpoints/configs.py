"""The config for a converted checkpoint: a packaged one, with the model that the weights have."""
from ..config import load_config, plain
from ..skeleton import LAYOUTS, get_layout

CONFIGS = "configs/recognition"
FRAMEWORKS = {"ResNet3dSlowOnly": "Recognizer3D"}
STGCN = {18: "stgcn/stgcn_kinetics.yaml", 17: "stgcn/stgcn_pphuman.yaml"}
LAYOUT_KEYS = ("layout", "graph", "dataset")
CLIP = 100


def complete_config(found, layout):
    """A whole config: the packaged one nearest to what was ``found``, with its MODEL section replaced.

    Args:
        layout: ``Layout``, or None where the network does not depend on one.
    """
    base = _base(found)
    config = plain(load_config(f"{CONFIGS}/{base}"))
    backbone, head = (_with_own(config["MODEL"][part], ours) for part, ours in
                      (("backbone", found.backbone), ("head", found.head)))
    if layout and found.layout_key:
        backbone[found.layout_key] = described(layout)
    config["MODEL"] = {"framework": FRAMEWORKS.get(backbone["name"], "RecognizerGCN"), "backbone": backbone,
                       "head": head}
    for key in ("LAYOUT", "class_names"):
        config.pop(key, None)
    if found.style == "pyskl" and backbone["name"].startswith("CTRGCN"):
        _clips_to_samples(config["PIPELINE"])
        config["INFERENCE"] = {"name": "CTRGCN_Inference_helper", "top_k": 1}
    if layout:
        _fit_pipeline(config.get("PIPELINE"), layout)
    _fit_persons(config.get("PIPELINE"), backbone.get("num_person"))
    if backbone["name"].startswith("CTRGCN") and found.style != "pyskl":
        config["INFERENCE"].update(num_channels=backbone["in_channels"], vertex_nums=layout.num_joints,
                                   person_nums=backbone["num_person"])
    config["model_name"] = f"{backbone['name']}_converted"
    return config


def _with_own(packaged, found):
    """What was found, and of a packaged part of the same name what no weights tell, such as dropout."""
    return {**packaged, **found} if packaged["name"] == found["name"] else dict(found)


def _base(found):
    name = found.backbone["name"]
    if name == "STGCN":
        return STGCN.get(found.joints, "stgcn/stgcn_ntucs.yaml")
    if name == "ResNet3dSlowOnly":
        return "posec3d/posec3d_hmdb51.yaml"
    if found.style == "paddlevideo":
        return "ctrgcn/ctrgcn_ntucs_joint.yaml"
    flat = found.joints == 17
    return f"stgcn_plusplus/stgcn_plusplus_{'ntucs' if flat else 'ntu3d_joint'}.yaml"


def described(layout):
    """How a config names a layout: by its name if it is a known one."""
    return layout.name if LAYOUTS.get(layout.name) == layout else layout.to_dict()


def _steps(pipeline):
    """Every transform of every split as ``(name, arguments, the list that holds it)``."""
    for split in pipeline.values():
        for steps in split.values():
            for step in steps if isinstance(steps, list) else [steps]:
                if isinstance(steps, dict):
                    yield steps.get("name"), steps
                else:
                    yield from ((name, arguments or {}) for name, arguments in step.items())


def _fit_pipeline(pipeline, layout):
    """Transforms that name a skeleton of other joints name this one."""
    for _, arguments in _steps(pipeline):
        for key in LAYOUT_KEYS:
            if key in arguments and _joints(arguments[key]) not in (None, layout.num_joints):
                arguments[key] = described(layout)


def _joints(spec):
    known = spec in ("coco", "nturgb+d", "openpose") or isinstance(spec, dict) or spec in LAYOUTS
    return get_layout(spec).num_joints if known or isinstance(spec, str) else None


def _fit_persons(pipeline, persons):
    for _, arguments in _steps(pipeline):
        if persons and "num_person" in arguments:
            arguments["num_person"] = persons


def _clips_to_samples(pipeline):
    """pyskl's steps for a network that takes ``(C, T, V, M)``: one clip, and no array of clips at the end."""
    for split in pipeline.values():
        for key, steps in split.items():
            if isinstance(steps, list):
                split[key] = [{"FormatPersons": {"num_person": 2}} if "FormatGCNInput" in step else step
                              for step in steps if "Collect" not in step]
    for name, arguments in _steps(pipeline):
        if name == "UniformSampleFrames":
            arguments["num_clips"] = 1
