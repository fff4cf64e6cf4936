#!/usr/bin/env bash
# Short runs, healthy ones and ones broken on purpose, for `portolan doctor` to be scored on (docs/results/doctor.md).
# doctor.sh PORTOLAN FOLDER SEED  makes those that are not there yet; doctor.sh PORTOLAN FOLDER score  reads them.
set -u
portolan=$1 folder=$2 what=$3
mkdir -p "$folder"

# run NAME METHOD ARGUMENTS…: a healthy run is named well-…, a broken one after what is wrong with it.
run() {
    local out="$folder/$1-$2-s$what"
    [ -e "$out/report.json" ] && return
    rm -rf "$out"
    "$portolan" reproduce "$2" --threads 1 --seed "$what" --limit 2000 --limit-test 300 --epochs 6 \
        --set knn_every=2 --out "$out" "${@:3}" > "$out.log" 2>&1 || echo "$out: $(tail -n 1 "$out.log")"
}

if [ "$what" = score ]; then
    for run in "$folder"/*/; do
        found=$("$portolan" doctor "$run" --brief 2>&1 | paste -sd ' ')
        echo "$(basename "$run") | ${found}"
    done
    exit
fi

weak='[[views]]
count = 2
ops = [
    { op = "random_resized_crop", size = 32, scale = [0.9, 1.0] },
    { op = "horizontal_flip", p = 0.5 },
    { op = "normalize", mean = [0.5, 0.5, 0.5], std = [0.25, 0.25, 0.25] },
]'
echo "$weak" > "$folder/weak.toml"

for method in simclr moco moco-v3 byol simsiam barlow vicreg dino mae rotation; do
    run well "$method"
done
run collapse byol --set predictor=false --set target=false
run collapse simsiam --set stop_gradient=false
run collapse vicreg --set variance=0.0 --set covariance=0.0
run collapse dino --set center_momentum=1.0 --set teacher_temperature=0.01 --set teacher_temperature_start=0.01
run uniform dino --set teacher_temperature=1.0 --set teacher_temperature_start=1.0
for method in simclr moco byol mae; do
    rate=$(awk '$1 == "learning_rate" { print 10 * $3 }' "$folder/well-$method-s$what/config.toml")
    run rate "$method" --set learning_rate="$rate"
done
run weak simclr --config "$folder/weak.toml"
run weak moco --config "$folder/weak.toml"
run weak moco-v3 --config "$folder/weak.toml"
run batch simclr --batch-size 8
run batch moco-v3 --batch-size 8
