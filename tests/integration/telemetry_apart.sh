#!/bin/bash
# I6: no call to Redis is reachable from the state machines of hub, learner, actor, reward worker and weights: the simulator is made of
# them, and is linked without telemetry.
set -u

reaches() { nm "$BIN_DIR/$1" | grep -E ' [TtUu] (redis|telemetry_)'; }

if reaches candor-sim; then
    echo "FAILED: these are reachable from a state machine"
    exit 1
fi
reaches candor-learner >/dev/null || {
    echo "FAILED: candor-learner has no telemetry: this test looks for the wrong names"
    exit 1
}
