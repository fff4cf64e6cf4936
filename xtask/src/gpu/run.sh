#!/bin/sh
# Everything that only a GPU can show, within twelve minutes, on a machine with PyTorch 2.11 (CUDA 13) and no Rust.
#
#   ./run.sh [--out FOLDER] [any other option of `portolan gpu-check`]
#
# It uses the libtorch of that PyTorch. PYTHON names the Python that has it (python3 otherwise); where LIBTORCH is set, the
# libraries in its lib/ are used instead. docs/gpu.md says what each line of the results means.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
if [ -n "${LIBTORCH:-}" ]; then
    libraries=$LIBTORCH/lib
else
    libraries=$("${PYTHON:-python3}" -c '
import glob, importlib.metadata, importlib.util, os, sys
torch = importlib.util.find_spec("torch")
if torch is None:
    sys.exit("error: this Python has no PyTorch; set PYTHON to one that has 2.11, or LIBTORCH to a libtorch 2.11")
version = importlib.metadata.version("torch")
if not version.startswith("2.11."):
    sys.exit(f"error: this Python has PyTorch {version}, and the program was built for 2.11")
torch = os.path.dirname(torch.origin)
nvidia = glob.glob(os.path.join(os.path.dirname(torch), "nvidia", "*", "lib"))
print(":".join([os.path.join(torch, "lib"), *nvidia]))
')
fi
export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
if [ -d "$here/peers" ]; then
    set -- --peers "$here/peers" "$@"
fi
exec "$here/portolan" gpu-check --data "$here/data" --out "$here/results" "$@"
