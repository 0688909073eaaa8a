"""A config for a converted checkpoint: a packaged one, with the model that the weights have."""
from ..config import load_config, plain
from .layouts import config_value, name_layout, pipeline_steps

PACKAGED = "configs/recognition"
FRAMEWORKS = {"ResNet3dSlowOnly": "Recognizer3D"}
STGCN_CONFIGS = {18: "stgcn/stgcn_kinetics.yaml", 17: "stgcn/stgcn_pphuman.yaml"}


def complete_config(found, layout):
    """A complete config: the packaged one closest to what was ``found``, with its MODEL section replaced.

    Args:
        layout: ``Layout``, or None where the network does not depend on one.
    """
    base = _base(found)
    config = plain(load_config(f"{PACKAGED}/{base}"))
    backbone, head = (_merge(config["MODEL"][part], ours) for part, ours in
                      (("backbone", found.backbone), ("head", found.head)))
    if layout and found.layout_key:
        backbone[found.layout_key] = config_value(layout)
    config["MODEL"] = {"framework": FRAMEWORKS.get(backbone["name"], "RecognizerGCN"), "backbone": backbone,
                       "head": head}
    for key in ("LAYOUT", "class_names"):
        config.pop(key, None)
    if found.style == "pyskl" and backbone["name"].startswith("CTRGCN"):
        _clips_to_samples(config["PIPELINE"])
        config["INFERENCE"] = {"name": "CTRGCN_Inference_helper", "top_k": 1}
    if layout:
        name_layout(config["PIPELINE"], layout)
    _set_persons(config["PIPELINE"], backbone.get("num_person"))
    if backbone["name"].startswith("CTRGCN") and found.style != "pyskl":
        config["INFERENCE"].update(num_channels=backbone["in_channels"], vertex_nums=layout.num_joints,
                                   person_nums=backbone["num_person"])
    config["model_name"] = f"{backbone['name']}_converted"
    return config


def _merge(packaged, found):
    """The arguments found, plus the packaged part's arguments that weights do not show, such as dropout, if the names
    agree.
    """
    return {**packaged, **found} if packaged["name"] == found["name"] else dict(found)


def _base(found):
    name = found.backbone["name"]
    if name == "STGCN":
        return STGCN_CONFIGS.get(found.joints, "stgcn/stgcn_ntucs.yaml")
    if name == "ResNet3dSlowOnly":
        return "posec3d/posec3d_hmdb51.yaml"
    if found.style == "paddlevideo":
        return "ctrgcn/ctrgcn_ntucs_joint.yaml"
    flat = found.joints == 17
    return f"stgcn_plusplus/stgcn_plusplus_{'ntucs' if flat else 'ntu3d_joint'}.yaml"


def _set_persons(pipeline, persons):
    for _, arguments in pipeline_steps(pipeline):
        if persons and "num_person" in arguments:
            arguments["num_person"] = persons


def _clips_to_samples(pipeline):
    """Change pyskl's steps for a network that takes ``(C, T, V, M)``: one clip, and no array of clips at the end."""
    for split in pipeline.values():
        for key, steps in split.items():
            if isinstance(steps, list):
                split[key] = [{"FormatPersons": {"num_person": 2}} if "FormatGCNInput" in step else step
                              for step in steps if "Collect" not in step]
    for name, arguments in pipeline_steps(pipeline):
        if name == "UniformSampleFrames":
            arguments["num_clips"] = 1
