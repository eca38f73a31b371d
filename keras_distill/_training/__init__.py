"""One training step, its inputs and its logs. TensorFlow lives here."""
