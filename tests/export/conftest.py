"""Exports of small models, made once for all tests here."""
import importlib.util

import pytest
from deploy_cases import filled, small_config

from paddlevideo_skel.export.exporter import export_model

HAS_ONNX = all(importlib.util.find_spec(name) for name in ("paddle2onnx", "onnx", "onnxruntime"))


@pytest.fixture(scope="session")
def exports(tmp_path_factory):
    """``exports(name, kind, form)``: the export of a small model, with ONNX where it can be made. Not to be changed."""
    made = {}

    def find(name, kind="minimal", form="json"):
        if (name, kind, form) not in made:
            config, folder = small_config(name, "INFERENCE.top_k=3"), tmp_path_factory.mktemp(f"{name}-{kind}")
            made[name, kind, form] = export_model(config, filled(config), folder, "inference", kind, form, HAS_ONNX)
        return made[name, kind, form]

    return find
