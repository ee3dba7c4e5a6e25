#!/bin/bash
# A minute of killing and stopping real processes, about a minute more for the undisturbed run that must come out the same.
exec "$SOURCE_DIR/tests/fault/torture" --minutes 1 --seed 3 --bin "$BIN_DIR"
