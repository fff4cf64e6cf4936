#!/bin/bash
# Kills a small run at ten random moments with SIGKILL, resumes it, and compares every tensor of the last checkpoint and
# of the encoder with those of a run that was left alone. `docs/results/kill9.sh target/release/portolan`
set -u
PORTOLAN=$(realpath "${1:-target/release/portolan}")
OPTIONS="moco --epochs 3 --limit 640 --limit-test 200 --batch-size 64 --set checkpoint_minutes=0.005 --set knn_every=1"
cd "$(mktemp -d)" || exit 1
start=$(date +%s.%N)
$PORTOLAN reproduce $OPTIONS --out whole >whole.log 2>&1 || exit 1
whole=$(echo "$(date +%s.%N) - $start" | bc)
RANDOM=7
for i in 1 2 3 4 5 6 7 8 9 10; do
    $PORTOLAN reproduce $OPTIONS --out "part$i" >"part$i.log" 2>&1 &
    moment=$(echo "scale=3; 0.4 + ($whole - 1.0) * $RANDOM / 32768" | bc)
    sleep "$moment"
    kill -9 $! 2>/dev/null
    wait $! 2>/dev/null
    left=$(ls "part$i/checkpoints" 2>/dev/null | grep 'safetensors$' | tail -1)
    $PORTOLAN pretrain --resume "part$i" >>"part$i.log" 2>&1 || echo "resuming failed: $(tail -1 "part$i.log")"
    python3 - whole "part$i" "killed after $moment s, leaving ${left:-no checkpoint}" <<'PYTHON'
import glob, json, struct, sys

def tensors(path):
    data = open(path, "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    return {name: data[8 + size + v["data_offsets"][0]:8 + size + v["data_offsets"][1]] for name, v in header.items()}

whole, part, what = sys.argv[1:]
last = lambda run: sorted(glob.glob(f"{run}/checkpoints/*.safetensors"))[-1]
same = tensors(f"{whole}/encoder.safetensors") == tensors(f"{part}/encoder.safetensors")
checkpoints = tensors(last(whole)), tensors(last(part))
same = same and checkpoints[0] == checkpoints[1]
print(f"{what}: {'the same bits' if same else 'DIFFERENT'} ({len(checkpoints[0])} tensors)")
PYTHON
done
