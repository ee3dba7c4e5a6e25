#!/bin/bash
# Every N-th failure of whole training runs, and some of real processes.
"$BIN_DIR/candor-nth-run" all || exit 1
exec "$SOURCE_DIR/tests/fault/nth/processes"
