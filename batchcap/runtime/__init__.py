"""A bundle on a device: the only room that knows onnxruntime, and the captioner on top of it."""
