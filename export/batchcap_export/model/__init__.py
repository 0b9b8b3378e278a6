"""A captioner as the export stage sees it: functions of TensorFlow, and what a bundle says of them."""
