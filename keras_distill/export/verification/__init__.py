"""What the files do on real data, beside the Keras student."""
