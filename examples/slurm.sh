#!/bin/sh
# Trains over the nodes of a SLURM cluster, a rank on each, and goes on where it was when its time is over:
#
#     sbatch examples/slurm.sh --backend numba --iterations 100000 --save model.npz
#
# Arguments are those of "mnistbench train". The state is kept beside them, in mnistbench-JOB.checkpoint.
#
#SBATCH --job-name=mnistbench
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=01:00:00
#SBATCH --requeue
# SIGTERM comes to this script 60 s before the time is over.
#SBATCH --signal=B:TERM@60

set -eu

# A site's own MPI is started by srun, with mpi4py built for it; "pip install 'mnistbench[mpi]'" brings mpiexec, which
# asks SLURM for the nodes.
MPIEXEC=${MPIEXEC:-mpiexec}
PYTHON=${PYTHON:-python}

checkpoint="${SLURM_SUBMIT_DIR:-.}/mnistbench-$SLURM_JOB_ID.checkpoint"
if [ -e "$checkpoint" ]; then
    set -- "$@" --resume "$checkpoint"  # this job was requeued
else
    set -- "$@" --checkpoint "$checkpoint"
fi

over=
trap 'over=1; kill -TERM "$job"' TERM
"$MPIEXEC" -n "$SLURM_NTASKS" "$PYTHON" -m mpi4py -m mnistbench train \
    --ranks "$SLURM_NTASKS" --threads "$SLURM_CPUS_PER_TASK" "$@" &
job=$!
status=0
wait "$job" || status=$?
if [ -n "$over" ]; then
    wait "$job" || status=$?  # rank 0 writes the checkpoint
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
