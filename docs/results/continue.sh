#!/usr/bin/env bash
# Continued pretraining beside naive continuation, which trains everything at once at the full rate.
# docs/results/continue.sh PORTOLAN FOLDER [SEED]
# A DINOv2 of the recipe `shapes` goes on (1) on the built-in images in another palette and (2) on CIFAR-10 as JPEG.
# FIRST, EPOCHS and LIMIT shorten it: epochs of the first run and of the others, and their images. CIFAR is the folder of (2).
set -eu
portolan=$(realpath "${1:-target/release/portolan}")
folder=${2:-runs/continue} seed=${3:-0}
first=${FIRST:-10} epochs=${EPOCHS:-10} limit=${LIMIT:-10000}
cifar=${CIFAR:-../shared/datasets/cifar10-jpeg}
threads=${THREADS:-2}
mkdir -p "$folder"

# run NAME ARGUMENTS…: a run of DINOv2, unless it is there.
run() {
    local out="$folder/$1-s$seed"
    if [ ! -e "$out/report.json" ]; then
        rm -rf "$out"
        "$portolan" pretrain dinov2 --seed "$seed" --threads "$threads" --device cpu --limit "$limit" --limit-test 2000 \
            --out "$out" "${@:2}" > "$out.log" 2>&1 || { tail -n 3 "$out.log"; exit 1; }
    fi
    echo "$1: $(grep -E '^(start|kNN)' "$out.log" | tail -n 1)"
}

# The heads are those of the recipe `shapes`: the usual ones would cost more than so small an encoder.
small="--set settings.head.layers=2 --set settings.head.hidden=512 --set settings.head.bottleneck=128 --set settings.head.dim=256"
naive="--set freeze_encoder=0.0 --set encoder_rate=1.0 --set layer_decay=1.0"

run first --recipe shapes --data shapes --epochs "$first"
start="$folder/first-s$seed/encoder.safetensors"
# Words of the last two variables are arguments of their own.
# shellcheck disable=SC2086
for how in continued naive; do
    more=$([ "$how" = naive ] && echo "$naive" || true)
    run "palette-$how" --recipe continue --init "$start" --data shapes --set palette=shifted --epochs "$epochs" $small $more
    run "cifar-$how" --recipe continue --init "$start" --data "$cifar" --epochs "$epochs" $small $more
done
