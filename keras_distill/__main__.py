"""`python -m keras_distill` is the command `keras-distill`."""

from keras_distill.cli import main

if __name__ == "__main__":
    main()
