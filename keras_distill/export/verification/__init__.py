"""What the files do on real data, compared with the Keras student."""
