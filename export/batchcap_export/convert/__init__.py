"""TensorFlow to ONNX: the graphs of a bundle, and how they are stored and computed in fewer bits."""
