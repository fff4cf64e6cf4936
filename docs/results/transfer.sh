#!/usr/bin/env bash
# How features of a small transformer transfer, by the method that pretrained it: MoCo v3, DINO, DINOv2, MAE, and training with
# labels. shapes at 64 px, patches of 8, the same budget for each.
# transfer.sh PORTOLAN FOLDER [SEED] makes the runs that are not there yet, and prints a Markdown table. TIME is the budget of
# each run (default 10m); EPOCHS overrides it. FINETUNE is the epochs of fine-tuning and of training with labels (default 30),
# and ARGUMENTS are further arguments of reproduce.
set -euo pipefail
portolan=$1 folder=$2 seed=${3:-0}
here=$(dirname "$(realpath "$0")")
mkdir -p "$folder"
budget=(--time "${TIME:-10m}")
[ -n "${EPOCHS:-}" ] && budget=(--epochs "$EPOCHS")
read -ra arguments <<<"${ARGUMENTS:-}"
finetune=(--finetune-epochs "${FINETUNE:-30}")
columns=(knn linear linear_dense.mean_iou linear_dense.rmse lost.corloc)
frozen=knn,linear,linear-dense,lost
echo "| method | kNN (%) | linear (%) | segmentation, mean IoU | depth, RMSE | CorLoc | fine-tuned (%) |"
echo "|---|---|---|---|---|---|---|"

# pretrain NAME METHOD RECIPE ARGUMENTS…: the recipe with everything twice as large, patches too.
pretrain() {
    local out="$folder/$1-s$seed"
    [ -e "$out/report.json" ] && return
    rm -rf "$out"
    sed -E -e 's/\bsize = 32/size = 64/; s/\bsize = 16/size = 32/; s/^resize = 32/resize = 64/' \
        -e 's/^image = 32/image = 64/; s/^patch = 4/patch = 8/' "$here/../../crates/$3" >"$folder/$1.toml"
    "$portolan" reproduce "$2" --config "$folder/$1.toml" --seed "$seed" "${budget[@]}" "${@:4}" "${arguments[@]}" --out "$out" \
        >"$out.log" 2>&1 || { echo "$out: $(tail -n 1 "$out.log")" >&2; return 1; }
}

# row NAME METHOD RECIPE ARGUMENTS…
row() {
    pretrain "$@" || return 0
    local out="$folder/$1-s$seed"
    "$portolan" evaluate "$out" --protocol $frozen,finetune "${finetune[@]}" >"$out-evaluation.log" 2>&1 ||
        echo "$out: $(tail -n 1 "$out-evaluation.log")" >&2
    echo "| $1 | $(python3 "$here/evaluation.py" "$out/evaluation.json" "${columns[@]}" finetune) |"
}

# The same transformer, trained with labels by the settings of fine-tuning, then frozen as the others are. Its own accuracy
# is in the last column.
supervised() {
    local out="$folder/supervised-s$seed" like="$folder/dinov2-s$seed"
    [ -e "$like/report.json" ] || return 0
    mkdir -p "$out"
    "$portolan" evaluate "$like" --protocol scratch "${finetune[@]}" --save-finetuned "$out" >"$out.log" 2>&1 ||
        { echo "$out: $(tail -n 1 "$out.log")" >&2; return; }
    local own
    own=$(python3 "$here/evaluation.py" "$like/evaluation.json" scratch)
    "$portolan" evaluate "$out/scratch.safetensors" --data shapes --protocol $frozen >"$out-evaluation.log" 2>&1 ||
        echo "$out: $(tail -n 1 "$out-evaluation.log")" >&2
    echo "| supervised | $(python3 "$here/evaluation.py" "$out/scratch-evaluation.json" "${columns[@]}") | $own |"
}

# As docs/pictures.md trains it.
row moco-v3 moco-v3 moco/recipes/v3-shapes.toml --encoder vit_w96d4h3_patch8_64 --set frozen_patches=true --set learning_rate=0.001
row dino dino dino/recipes/shapes-vit.toml
row dinov2 dinov2 dinov2/recipes/shapes.toml
row mae mae mae/recipes/shapes.toml
supervised
