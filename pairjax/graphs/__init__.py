"""Writes a model's parameters as ONNX graphs, and runs them with onnxruntime."""
