#!/bin/bash
# The CUDA part compiles for every architecture with warnings as errors, each kernel within its budget of registers and shared
# memory (tests/gpu/budgets.txt) and without spills; and on a host without a driver, or with one too old, a program says so.
set -u
[ -z "$SANITIZE" ] || { echo "the build without sanitizers does this"; exit 77; }
command -v nvcc >/dev/null || { echo "no nvcc (CUDA toolkit)"; exit 77; }
command -v c++filt >/dev/null || { echo "no c++filt (apt-get install binutils)"; exit 77; }

cmake -S "$SOURCE_DIR" -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DCANDOR_CUDA=ON >configure.log 2>&1 || {
    tail -n 20 configure.log
    exit 1
}
cmake --build build -j "$(nproc)" --target candor-cuda candor-bench >build.log 2>&1 || {
    grep -E -A5 'error|FAILED' build.log | head -n 40
    exit 1
}
c++filt <build.log | awk -f "$SOURCE_DIR/tests/gpu/resources.awk" >used
[ "$(wc -l <used)" -ge 20 ] || { echo "only $(wc -l <used) kernels in nvcc's output"; exit 1; }

awk '
    NR == FNR { if ($1 !~ /^#/ && NF >= 3) { registers[$1] = $2; shared[$1] = $3; optional[$1] = NF > 3 } next }
    !($1 in registers) { print $1 ": no budget; it uses " $2 " registers, " $3 " bytes of shared memory"; bad = 1; next }
    $2 > registers[$1] { print $1 ": " $2 " registers; the budget is " registers[$1]; bad = 1 }
    $3 > shared[$1] { print $1 ": " $3 " bytes of shared memory; the budget is " shared[$1]; bad = 1 }
    $4 > 0 { print $1 ": " $4 " bytes of stack and spills; right would be none"; bad = 1 }
    { seen[$1] = 1 }
    END {
        for (name in registers) if (!(name in seen) && !optional[name]) { print name ": has a budget, but there is no such kernel"; bad = 1 }
        exit bad
    }' "$SOURCE_DIR/tests/gpu/budgets.txt" used || exit 1

says() { # WORDS
    build/bin/candor-bench gpu >said 2>&1
    [ $? = 78 ] && [ "$(wc -l <said)" = 1 ] && grep -q "$1" said || { echo "candor-bench gpu, instead of \"$1\", 78:"; cat said; exit 1; }
}
if [ ! -e /proc/driver/nvidia/version ]; then
    says 'this host has no NVIDIA driver'
    # a driver of which its version is all there is
    echo 'int cuDriverGetVersion(int *version) { *version = 11040; return 0; } int cuInit(unsigned flags) { return (int)(flags - flags); }' |
        cc -x c -shared -fPIC -o libcuda.so.1 - || exit 1
    LD_LIBRARY_PATH=$PWD says 'the driver is too old: it serves CUDA 11.4, and this build needs '
fi
exit 0
