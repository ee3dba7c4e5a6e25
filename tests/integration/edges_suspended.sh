#!/bin/bash
# A host is suspended for hours: CLOCK_BOOTTIME, by which leases and silences are judged, jumps while processes stand still. Nobody is
# judged for the time in which nobody could be heard; the run goes on to the same bits.
set -u
. "$SOURCE_DIR/tests/support/script.sh"
. "$SOURCE_DIR/tests/support/processes.sh"

if [ -n "$SANITIZE" ]; then
    echo "a library that is put before the sanitizer's"
    exit 77
fi

undisturbed 20 12 16 24

for clock in learner actor1 actor2 reward; do echo 0 >$clock.clock; done
on_clock() { environment=("LD_PRELOAD=$BIN_DIR/libcandor-edges.so" "EDGES_CLOCK=$PWD/$1.clock"); }
sleep_of() { # sleep_of CLOCK HOURS: it is suspended for so long
    local before
    before=$(cat "$1.clock")
    echo $((before + 3600 * $2)) >"$1.clock"
}

on_clock learner
begin_learner run
for name in actor1 actor2; do
    on_clock $name
    begin_actor $name run --set actor.in_flight=16
done
on_clock reward
begin_reward reward run
wait_for "two steps" has_steps run 2

# with_leases ACTORS...: they are stopped while they have leases
with_leases() {
    local try name
    for ((try = 0; try < 100; try++)); do
        freeze "$@"
        ask run
        for name in "$@"; do [ "$(peer "$name" leases)" -gt 0 ] && return; done
        thaw "$@"
        sleep 0.05
    done
    die "no lease is out"
}

next_step() { wait_for "another step" has_steps run $(($(lines run) + 1)); }

echo "-- the learner's host sleeps for nine hours, with leases out"
with_leases actor1 actor2
held=$(sed -n 's/.*"leases":\([0-9]*\),"versions".*/\1/p' .test.status)
freeze learner-run
sleep_of learner 9
thaw learner-run
sleep 0.5 # some ticks of the hub
ask run || die "the learner does not answer: $(tail -n 1 learner-run.log)"
[ "$(sed -n 's/.*"leases":\([0-9]*\),"versions".*/\1/p' .test.status)" = "$held" ] || die "$held leases were out: $(cat .test.status)"
[ "$(count expired) $(count lost) $(count gone)" = "0 0 0" ] || die "somebody was judged: $(cat .test.status)"
thaw actor1 actor2
next_step

echo "-- an actor's host sleeps for a day, with leases"
with_leases actor1
sleep_of actor1 24
thaw actor1
next_step

echo "-- a reward worker's host, longer than it remembers actors"
freeze reward
sleep_of reward 2
thaw reward
next_step

echo "-- all of them at once"
with_leases actor1 actor2
freeze learner-run reward
for clock in learner actor1 actor2 reward; do sleep_of $clock 100; done
thaw learner-run reward actor1 actor2
ask run
[ "$(lines run)" -lt 20 ] || die "the run was over before the last sleep: the test shows nothing"
finish learner-run
stop actor1 actor2 reward
! says learner-run slot_stuck || die "a question was thought to be stuck: $(grep slot_stuck learner-run.log)"
! says learner-run mismatch || die "bits differed: $(grep mismatch learner-run.log)"
same run
echo "-- good"
