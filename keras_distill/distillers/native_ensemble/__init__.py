"""Branches of one network that teach it: `kd.NativeEnsembleDistiller`."""
