#!/bin/bash
# Warnings, not failures: files of more than 500 lines, and sources that clang-format (Debian 12's, where it is installed)
# would change. Headers are laid out by hand, in columns.
set -u
cd "$SOURCE_DIR" || exit 1
sources=$(find common proto actor reward learner deploy tests -name '*.c' -o -name '*.h' -o -name '*.cu' 2>/dev/null | sort)

for file in $sources; do
    lines=$(wc -l <"$file")
    [ "$lines" -le 500 ] || echo "warning: $file: $lines lines; about 500 is the limit"
done
if command -v clang-format >/dev/null; then
    for file in $sources; do
        case $file in
            *.c) clang-format --style=file "$file" | cmp -s - "$file" || echo "warning: $file: clang-format -i changes it" ;;
        esac
    done
fi
exit 0
