#!/bin/bash
# A machine that says no: endpoints in use, no permission to write, a full disk. One line, the right exit code, nothing half-written.
set -u
. "$SOURCE_DIR/tests/support/script.sh"

# ---- a full disk: "$0 disk PREFIX..." -------------------------------------------------------------------------------------
# ./full has no room; each command is started through PREFIX.
full_disk() {
    local words="@(No space left on device|File too large)"
    refused 1 "full/world.part/facts.jsonl: cannot write: $words" "$@" "$candor" data world --out full/world
    refused 1 "full/mix/train.jsonl*: $words" "$@" "$candor" data mix --out full/mix world/train.jsonl
    refused 1 "full/out.part/*: cannot write: $words" "$@" "$candor" sft --config run.ini --init world --out full/out
    refused 1 "full/out/final.jsonl: cannot write: $words" "$@" "$candor" eval --config run.ini --model base --out full/out
    refused 1 "full/graded.jsonl*: $words" "$@" "$candor" grade --file answers.jsonl --out full/graded.jsonl
    refused 1 "full/report.html: cannot write: $words" "$@" "$candor" report run --out full/report.html
}

limited() { # the nearest thing to a full disk without mounting one
    ulimit -f 1
    "$@"
}

if [ "${1-}" = disk ]; then
    mount -t tmpfs -o size=4m none full || die "no tmpfs"
    dd if=/dev/zero of=full/filler bs=4k status=none 2>/dev/null
    full_disk
    refused 1 "full/key: write: No space left on device" "$candor" keygen full/key
    may_leave=./full/run refused 1 "full/run/config.ini: cannot write: No space left on device" "$learner" --config run.ini --run full/run
    rm -rf full/run
    may_leave=./full/run refused 1 "learner: it said nothing, as if its log could not be written" \
        "$candor" train --config run.ini --run full/run
    rm -rf full/*
    dd if=/dev/zero of=full/filler bs=1k count=2000 status=none
    may_leave=./full/run refused 1 "learner: full/run: * free; right would be * 3 checkpoints of" \
        "$candor" train --config run.ini --run full/run
    exit 0
fi

tiny_world
works "$candor" train --config run.ini --run run
for ((i = 0; i < 40; i++)); do
    echo "{\"id\":\"$i\",\"question\":\"Who ?\",\"aliases\":[\"I\"],\"response\":\"boxed[I]\"}"
done >answers.jsonl

echo "-- a disk that takes no larger file"
mkdir full
export -f limited
full_disk bash -c 'limited "$@"' limited

echo "-- a full disk"
namespace=(unshare -m)
[ "$(id -u)" = 0 ] || namespace=(unshare -rm)
if "${namespace[@]}" true 2>/dev/null; then
    mkdir .test.tmp # in a namespace this user is called root, and root's temporary files are not ours
    TMPDIR=$PWD/.test.tmp "${namespace[@]}" "$0" disk || exit 1
else
    echo "   not here: no mount namespaces"
fi

echo "-- endpoints"
mkdir busy
"$reward" --run busy --set reward.bind=ipc://"$PWD"/busy/socket 2>.test.log &
wait_for "a reward worker" test -S busy/socket
refused 78 "reward.bind = ipc://*busy/socket: address in use" "$reward" --run busy --set reward.bind=ipc://"$PWD"/busy/socket
refused 78 "reward.bind = ipc:///nowhere/x: no directory /nowhere" "$reward" --run busy --set reward.bind=ipc:///nowhere/x
refused 78 "net.learner: nowhere: no such run directory" "$reward" --run nowhere
refused 78 "net.learner: nonsense: not an endpoint" "$actor" --set net.learner=nonsense
refused 78 "beyond loopback needs net.key" "$actor" --set net.learner=tcp://192.0.2.1:5
may_leave=./other refused 78 "learner: hub.control = tcp://192.0.2.1:5: listening beyond loopback needs net.key" \
    "$candor" train --config run.ini --run other --set hub.control=tcp://192.0.2.1:5 --set hub.weights=tcp://192.0.2.1:6
refused 75 "no learner answers within 1 s" "$candor" status --run run --timeout 1
refused 65 "nowhere: no such run directory" "$candor" status --run nowhere
refused 78 "--learner: nonsense: not an endpoint" "$candor" status --learner nonsense

echo "-- outputs that are there, or may not be written"
refused 65 "base: not empty" "$candor" sft --config run.ini --init world --out base
refused 65 "world: not empty" "$candor" data world --out world
refused 65 "world: not empty" "$candor" demo --out world
refused 65 "run.ini: is no directory" "$candor" data world --out run.ini
refused 65 "run.ini: * directory" "$candor" demo --out run.ini
refused 65 "run.ini: is a file; a directory is wanted" "$candor" eval --config run.ini --model base --out run.ini
refused 65 "busy: is a directory; a file is wanted" "$candor" grade --file answers.jsonl --out busy
refused 65 "/dev/null: is a device or pipe" "$candor" report run --out /dev/null
refused 1 "nowhere/x: cannot write there: No such file or directory" "$candor" grade --file answers.jsonl --out nowhere/x
refused 1 "nowhere/x: cannot write there" "$candor" demo --out demo --json nowhere/x
works "$candor" keygen key
refused 65 "key*: is there already" "$candor" keygen key
"$candor" report run --rollouts 1 >/dev/full 2>.test.err
[ $? = 1 ] || die "a full standard output is no error"
grep -q '^candor report: standard output: No space left' .test.err || die "a full standard output: $(cat .test.err)"

as=()
if [ "$(id -u)" = 0 ]; then
    as=(setpriv --reuid 65534 --regid 65534 --clear-groups)
    chmod 755 .
fi
mkdir -m 555 locked
if "${as[@]}" test -x "$candor" -a ! -w locked; then
    denied="Permission denied"
    refused 1 "locked/x.part: cannot make the directory: $denied" "${as[@]}" "$candor" data world --out locked/x
    refused 1 "locked/x: cannot make the directory: $denied" "${as[@]}" "$candor" data mix --out locked/x world/train.jsonl
    refused 1 "locked/x.part: cannot make the directory: $denied" "${as[@]}" "$candor" sft --config run.ini --out locked/x
    refused 1 "locked/x: cannot make the directory: $denied" "${as[@]}" "$candor" eval --config run.ini --model base --out locked/x
    refused 1 "locked/x: cannot make the directory: $denied" "${as[@]}" "$candor" demo --out locked/x
    refused 1 "locked/x: cannot make the directory: $denied" "${as[@]}" "$candor" train --config run.ini --run locked/x
    refused 1 "locked/x: cannot write there: $denied" "${as[@]}" "$candor" grade --file answers.jsonl --out locked/x
    refused 1 "locked/x: cannot write there: $denied" "${as[@]}" "$candor" report run --out locked/x
    refused 1 "locked/x: $denied" "${as[@]}" "$candor" keygen locked/x
    chmod 000 answers.jsonl
    refused 1 "answers.jsonl: $denied" "${as[@]}" "$candor" grade --file answers.jsonl --out /tmp/candor-graded.$$
fi
echo "-- good"
