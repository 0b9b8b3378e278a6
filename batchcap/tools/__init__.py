"""What examines a model or a machine instead of captioning: bench, doctor, verify."""
