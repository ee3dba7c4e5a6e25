#!/bin/bash
# Who may include whom (DESIGN section 13), and a page in every folder with sources. Prints each offence as file:line.
set -u
cd "$SOURCE_DIR" || exit 1
bad=0

# folder: folders whose headers it may include beside its own and common/base
declare -A allowed=(
    [common/base]=""
    [common/data]=""
    [common/compute]=""
    [common/model]="common/compute"
    [common/telemetry]=""
    [common/eval]="common/data"
    [proto]=""
    [common/transport]="proto"
    [common/weights]="common/transport proto common/model common/compute"
    [common/hub]="common/data common/telemetry common/transport proto common/weights common/model common/compute"
    [actor]="common/model common/compute common/weights common/transport proto"
    [reward]="common/transport proto"
    [learner]="common/eval common/hub common/weights common/telemetry common/model common/compute common/data common/transport proto"
)

# folder = that of the table that path $1 belongs to; "" for deploy and tests, which may use all
find_folder() {
    for folder in "${!allowed[@]}"; do
        case $1 in "$folder"/*) return ;; esac
    done
    folder=
}

while IFS=: read -r file line include; do
    target=${include#*\"}
    target=${target%%\"*}
    find_folder "$file"
    from=$folder
    find_folder "$target"
    to=$folder
    if [ ! -e "$target" ]; then
        echo "$file:$line: \"$target\": no such file from the repository's root"
        bad=1
    elif [ -n "$from" ] && [ "$from" != "$to" ] && [ "$to" != common/base ]; then
        case " ${allowed[$from]} " in
            *" ${to:-?} "*) ;;
            *) echo "$file:$line: $from may not include $target"; bad=1 ;;
        esac
    fi
done < <(find common proto actor reward learner deploy tests \( -name '*.[ch]' -o -name '*.cu' -o -name '*.def' \) \
    -exec grep -HnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' {} + 2>/dev/null)

for folder in $(find common proto actor reward learner deploy -name '*.c' -printf '%h\n' 2>/dev/null | sort -u); do
    if [ ! -e "$folder/README.md" ]; then
        echo "$folder: has sources and no README.md"
        bad=1
    fi
done
exit $bad
