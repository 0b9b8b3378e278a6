"""From a source, a run folder or a saved model, to a bundle, and the comparison of both."""
