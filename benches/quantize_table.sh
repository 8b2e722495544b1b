#!/usr/bin/env bash
# Compresses a CIFAR-10 checkpoint at many sizes and evaluates every file on the whole test set.
# usage: quantize_table.sh MODEL OUTPUT.csv   (WEIGHTSPACE_DATA must be set; weightspace on PATH)
set -euo pipefail
model=$1 table=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
number() { python3 -c 'import json,sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
row() {
    local file=$folder/model.wsp
    compressed=$(weightspace compress "$model" -o "$file" -f --quiet --json "$@")
    evaluated=$(weightspace eval "$file" --data cifar10 --quiet --json)
    echo "$*,$(number bytes <<<"$compressed"),$(number correct <<<"$evaluated"),$(number seconds <<<"$compressed")" |
        tee -a "$table"
}
echo "settings,bytes,correct_of_10000,compress_s" >"$table"
for bits in 8 6 5 4 3; do row --bits $bits; done
for bits in 8 6 5 4 3; do row --bits $bits --data cifar10 --calibrate 512; done
for bytes in ${SIZES:-250000 186000 145000 108000 100000 88500 83000 76000 70000 65000 60000 55000 50000 45000 40000 35000 30000}; do
    row --target-bytes $bytes --data cifar10 --calibrate 512
done
