"""From ONNX models to ``.om`` files for the Ascend NPU. Nothing here imports paddle or needs an NPU."""
