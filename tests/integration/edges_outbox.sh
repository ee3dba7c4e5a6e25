#!/bin/bash
# All reward workers are gone for a while (EDGES_GONE_S seconds, two by default): finished groups wait in the actors' outboxes, which take
# no more than they have room for; then generation stands still, and status says what is awaited. Nothing is lost, and once reward
# workers are there again the run goes on to the same bits.
set -u
. "$SOURCE_DIR/tests/support/script.sh"
. "$SOURCE_DIR/tests/support/processes.sh"

undisturbed 6 12 32 24

room=65536 # the least: two leases
begin_learner run --set hub.lease_ms=500 # so that leases of finished groups run out meanwhile
for name in red blue; do begin_actor $name run --set actor.outbox_bytes=$room; done
for name in first second; do begin_reward $name run; done

# What the actors have made and hold, in `figures`: never more than there is room for. The hub grants what has room and the actor
# reserves it, so none is given back for want of it.
look() {
    local name
    ask run || die "the learner does not answer: $(tail -n 1 learner-run.log)"
    figures=
    for name in red blue; do
        figures+="$name $(peer $name tokens) $(peer $name outbox_groups) $(peer $name outbox_bytes) "
        [ "$(peer $name outbox_bytes)" -le $room ] && [ "$(peer $name bytes)" -le $room ] || die "$name holds too much: $(cat .test.status)"
    done
    [ "$(count given_back)" = 0 ] || die "a lease came without room for it: $(cat .test.status)"
}
stand_still() { # the same twice, a while apart, and both have something
    look
    local before=$figures
    sleep 0.5
    look
    [ "$before" = "$figures" ] && [ "$(peer red outbox_groups)" -gt 0 ] && [ "$(peer blue outbox_groups)" -gt 0 ]
}

say_what_they_wait_for() { # once the silence of the dead is noticed
    ask run
    [[ $(hub_state)$(peer red state)$(peer blue state) == \
        *"waiting for a reward worker"'"waiting for a reward worker: '*'"waiting for a reward worker: '* ]]
}

gone() { # gone STEPS SECONDS: after so many, for so long
    wait_for "step $1" has_steps run "$1"
    destroy first second
    wait_for "word of what is waited for" say_what_they_wait_for
    wait_for "a standstill" stand_still
    local steps before=$figures
    steps=$(lines run)
    sleep "$2"
    look
    [ "$steps" = "$(lines run)" ] && [ "$before" = "$figures" ] || die "something moved: $before, then $figures"
    [ "$(sed -n 's/.*"open":\([0-9]*\),.*/\1/p' .test.status)" -gt 0 ] || die "no question was left: nobody was held back"
    for name in first second; do begin_reward $name run; done
}

echo "-- gone after the first step"
gone 1 "${EDGES_GONE_S:-2}"
echo "-- gone again"
gone 3 1
finish learner-run
stop red blue first second
same run
echo "-- good"
