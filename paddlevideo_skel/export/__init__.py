"""Making exports: the graph, ONNX, smaller weights. Each export proves itself before it is kept."""
