#!/usr/bin/env bash
# Everything that only a machine with an NVIDIA GPU can show, in a few minutes and without a network:
#
#   benchmarks/gpu.sh [FOLDER]
#
# - the GPU's tests, and agreement with the reference along the classic workload, in float32 and float64
#   (here and below of CuPy's backends, and of JAX's and PyTorch's where those are installed and see the GPU)
# - compute-sanitizer: memory errors and races of small runs (left out, and said so, where it is not installed)
# - the classic workload as in every other measurement: rows and charts in FOLDER (default: results); and the wide and
#   the deep one, of which array operations alone compute none
# - how the cost of an iteration grows with images and hidden units
#
# PYTHON names the interpreter that has mnistbench[dev] and CuPy (default: python3). Every part runs, whatever became
# of the others; the exit status says whether all went well.
set -uo pipefail
results=$(realpath -m "${1:-$(dirname "$0")/../results}")
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
failed=()

part() {
    local name=$1
    shift
    echo "== $name"
    "$@" || failed+=("$name")
}

said=$("$python" -c 'import mnistbench.backends as backends; backends.get_backend("cupy")' 2>&1) || {
    tail -n 1 <<<"$said" >&2
    exit 2
}
nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader || true

backends=()
for name in cupy cupy-plain $("$python" -c 'import mnistbench.backends as backends
print(*(name for name in ("jax", "torch") if backends.availability(name).device not in (None, "CPU")))'); do
    backends+=(--backend "$name")
done

# In one process: several would share the GPU.
part "tests" "$python" -m pytest -q -p no:xdist tests/backends/cupy
((${#backends[@]} == 4)) || part "tests of the frameworks" "$python" -m pytest -q -p no:xdist tests/backends/test_backends.py "${backends[@]:4}"
part "agreement" "$python" -m mnistbench verify "${backends[@]}"

# Without CuPy's memory pool, so that an access beyond an array is one beyond an allocation. CuPy asks the driver
# questions that fail, and expects that: only what kernels do counts.
small='import cupy; cupy.cuda.set_allocator(None)
import mnistbench
data = mnistbench.load_data(train_size=3000)
for dtype in ("float32", "float64"):
    mnistbench.train(data, backend="cupy", iterations=2, dtype=dtype)
from mnistbench import backends
from mnistbench.reference.parameters import Parameters
from mnistbench.task.recipe import Augmentation, Optimizer, Recipe
from mnistbench.task.workload import Network, Workload
recipe = Recipe(l2=1, dropout=(0.5,), optimizer=Optimizer("adamw"), batch_size=2000, augmentation=Augmentation(2, 9, 34))
for dtype in ("float32", "float64"):
    workload = Workload(Network((784, 31, 9, 10), "tanh"), 3000, dtype=dtype, recipe=recipe)
    with backends.get_backend("cupy").start(workload, data, Parameters.initial(workload.network, 0)) as trainer:
        trainer.advance(4), trainer.gradients(), trainer.predict(data.dev.images)'
PATH=$PATH:/usr/local/cuda/bin
if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck synccheck; do
        part "$tool" compute-sanitizer --tool "$tool" --report-api-errors no --error-exitcode 9 "$python" -c "$small"
    done
else
    echo "== memcheck, racecheck and synccheck left out: compute-sanitizer is not installed"
fi

part "classic" "$python" -m pytest benchmarks/ "${backends[@]}" --results "$results"
for workload in wide deep; do
    part "$workload" "$python" -m pytest benchmarks/ --workload "$workload" --backend cupy "${backends[@]:4}" \
        --results "$results"
done
part "scaling" "$python" -m pytest benchmarks/test_scaling.py "${backends[@]}" --results "$results"

if ((${#failed[@]})); then
    printf '== FAILED: %s\n' "${failed[@]}"
    exit 1
fi
echo "== all went well; rows are under $results"
