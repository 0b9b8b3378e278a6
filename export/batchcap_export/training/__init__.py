"""Backbones and decoders that learn: features, training, distillation, and run folders."""
