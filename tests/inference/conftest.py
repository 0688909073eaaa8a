"""A small CTR-GCN as an export, shared by the tests of this folder, which do not change it."""
import pytest


@pytest.fixture(scope="session")
def ctrgcn_export(tmp_path_factory):
    """A minimal export with its ONNX model, of ``small_config("ctrgcn")`` with the weights of ``filled``."""
    pytest.importorskip("paddle2onnx")
    from deploy_cases import filled, small_config

    from paddlevideo_skel.export.exporter import export_model

    config = small_config("ctrgcn")
    return export_model(config, filled(config), tmp_path_factory.mktemp("exported"), "inference", "minimal",
                        to_onnx=True)
