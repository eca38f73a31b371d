"""Students that teach each other: `kd.MutualDistiller`."""
