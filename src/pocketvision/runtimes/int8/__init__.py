"""INT8 for ONNX Runtime: what is done to a float graph, its ranges, and the integer graph."""
