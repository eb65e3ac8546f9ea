#!/usr/bin/env bash
# Train with one process for each GPU, on one or several machines. Without GPUs the processes share the CPU.
#
#   tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 PORT=29500 tools/dist_train.sh CONFIG 8     (on each machine)
set -euo pipefail

if [ $# -lt 2 ] || ! [[ $2 =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: $0 CONFIG GPUS [arguments of tools/train.py]" >&2
    echo "  GPUS: processes on this machine; NNODES, NODE_RANK, MASTER_ADDR, PORT: for several machines" >&2
    exit 2
fi
exec "$(dirname "${BASH_SOURCE[0]}")/dist_run.sh" "$2" train.py "$1" --launcher pytorch "${@:3}"
