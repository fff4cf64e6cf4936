#!/usr/bin/env bash
# DINOv2 on shapes beside DINO (recipe shapes-vit) and MAE, which have the same transformer, for the same time: kNN, linear
# probe and mean IoU of the dense probe.
# dinov2.sh PORTOLAN FOLDER [SEEDS] makes the runs that are not there yet, and prints a Markdown table. TIME is the budget of
# each run with its evaluation (default 10m); EPOCHS overrides it, and ARGUMENTS are further arguments of reproduce.
set -euo pipefail
portolan=$1 folder=$2
read -ra seeds <<<"${3:-0 1 2}"
here=$(dirname "$(realpath "$0")")
mkdir -p "$folder"
budget=(--time "${TIME:-10m}")
[ -n "${EPOCHS:-}" ] && budget=(--epochs "$EPOCHS")
read -ra arguments <<<"${ARGUMENTS:-}"
echo "| method, seed | training (s) | epochs | kNN (%) | linear (%) | mean IoU |"
echo "|---|---|---|---|---|---|"

# run NAME METHOD ARGUMENTS…
run() {
    local out="$folder/$1-s$seed"
    if [ ! -e "$out/report.json" ]; then
        rm -rf "$out"
        "$portolan" reproduce "$2" --seed "$seed" "${budget[@]}" "${@:3}" "${arguments[@]}" --out "$out" >"$out.log" 2>&1 ||
            { echo "$out: $(tail -n 1 "$out.log")" >&2; return; }
    fi
    "$portolan" evaluate "$out" --protocol knn,linear,linear-dense >"$out-evaluation.log" 2>&1 ||
        echo "$out: $(tail -n 1 "$out-evaluation.log")" >&2
    local trained
    trained=$(python3 -c 'import json, sys
report = json.load(open(sys.argv[1]))
print(round(report["seconds"]), "|", report["epochs"])' "$out/report.json")
    echo "| $1, $seed | $trained |" \
        "$(python3 "$here/evaluation.py" "$out/evaluation.json" knn linear linear_dense.mean_iou) |"
}

for seed in "${seeds[@]}"; do
    run dinov2 dinov2
    run dino-shapes-vit dino --recipe shapes-vit
    run mae mae
done
