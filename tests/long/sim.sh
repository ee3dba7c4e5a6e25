#!/bin/bash
# 20,000 simulated runs under faults, then every planted bug: 2 minutes on 2 cores for the first (fewer seeds where the machine is
# slower, which is said), some seconds for the second.
set -eu
"$BIN_DIR/candor-sim" --seeds 1..20000 --seconds 120
"$BIN_DIR/candor-sim-planted" --plants
