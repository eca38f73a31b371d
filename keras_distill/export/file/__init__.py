"""What is in a TFLite file, and whether it runs."""
