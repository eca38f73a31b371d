class NativeEnsembleDistiller:
    pass
