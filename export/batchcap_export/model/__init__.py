"""A captioner in the export stage: functions of TensorFlow, their beams and recurrent layers, and checks of them."""
