"""Files that are there whole or not at all."""

import os

# The names of files that are being written start with this. The next run
# removes what a killed one left of them.
UNFINISHED = ".writing-"


def write_whole(file, content):
    """Writes bytes to a file that is there whole or not at all."""
    unfinished = file.with_name(UNFINISHED + file.name)
    with open(unfinished, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(unfinished, file)
