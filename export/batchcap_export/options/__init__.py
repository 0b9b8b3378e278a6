"""What the commands of the export stage are told. Nothing here loads TensorFlow."""
