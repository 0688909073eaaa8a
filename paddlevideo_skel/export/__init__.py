"""Make exports: the graph, ONNX, smaller weights. Each export is verified before it is kept."""
