"""Networks that are taught by the generation before: `kd.born_again`."""
