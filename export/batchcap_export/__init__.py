"""The export stage: train or load Keras captioners and turn them into batchcap bundles. Needs ``batchcap[export]``."""
