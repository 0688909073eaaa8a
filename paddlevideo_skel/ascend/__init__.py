"""From an ONNX model to the Ascend NPU's ``.om``. Nothing here imports paddle, or needs an NPU to be tried."""
