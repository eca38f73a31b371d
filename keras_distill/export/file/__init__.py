"""What is in a TFLite file, and how to run it."""
