# Reads nvcc's output under -Xptxas=-v, its names demangled; prints a line a kernel: name, registers, bytes of shared memory,
# bytes of stack and spills, each the most over the architectures.
/Compiling entry function/ {
    name = $0
    sub(/.*Compiling entry function '/, "", name)
    sub(/' for '.*/, "", name)
    sub(/\(.*/, "", name)
    sub(/^void /, "", name)
    gsub(/ /, "", name)
    sub(/,$/, "", name) # an enum among a template's arguments ends the name: "<16,64,1,4,(layout)0"
}
/bytes stack frame/ { spill[name] = most(spill[name], $1 + $5 + $9) }
/: Used [0-9]+ registers/ {
    for (i = 1; i < NF; i++) {
        if ($(i + 1) ~ /^registers/) registers[name] = most(registers[name], $i)
        if ($(i + 1) == "bytes" && $(i + 2) ~ /^smem/) shared[name] = most(shared[name], $i)
    }
}
function most(a, b) { return a + 0 > b + 0 ? a + 0 : b + 0 }
END { for (name in registers) print name, registers[name], shared[name] + 0, spill[name] + 0 }
