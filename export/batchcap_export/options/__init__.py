"""The options of the commands of the export stage. Nothing here loads TensorFlow."""
