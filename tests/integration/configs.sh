#!/bin/bash
# Every configuration of deploy/configs passes, and what --print-config prints says the same again; it is what a run keeps.
set -u
. "$SOURCE_DIR/tests/support/script.sh"

count=0
for config in "$SOURCE_DIR"/deploy/configs/*.ini; do
    name=$(basename "$config" .ini)
    works "$learner" --config "$config" --check-config
    works "$learner" --config "$config" --print-config
    mv .test.out "$name.printed"
    works "$learner" --config "$name.printed" --print-config
    cmp -s .test.out "$name.printed" || die "$name: printed, read and printed again it differs: $(diff .test.out "$name.printed")"
    count=$((count + 1))
done
[ $count -ge 14 ] || die "only $count configurations in deploy/configs"

echo "-- defaults, presets, what overrides what"
works "$learner" --print-config
grep -q '^lr = 1e-06$' .test.out || die "the default of optim.lr is not printed"
[ "$(grep -c ' = ' .test.out)" -gt 70 ] || die "not all options are printed"
works "$learner" --print-config --set loss.preset=trl
grep -q '^schedule = linear$' .test.out || die "preset trl does not change optim.schedule"
printf '[optim]\nlr = 1e-3\nwarmup = 7\neps = 1e-7\n' >file.ini
works env CANDOR_OPTIM_LR=1e-4 CANDOR_OPTIM_WARMUP=8 "$learner" --config file.ini --print-config --set optim.lr=1e-5
for line in 'lr = 1e-05' 'warmup = 8' 'eps = 1e-07'; do
    grep -q "^$line\$" .test.out || die "\"$line\" is not what file < environment < --set makes: $(grep -A12 '^\[optim\]' .test.out)"
done
works "$actor" --print-config --run run
grep -q '^\[actor\]$' .test.out && ! grep -q '^\[optim\]$' .test.out || die "an actor prints other sections than its own"
echo "-- good"
