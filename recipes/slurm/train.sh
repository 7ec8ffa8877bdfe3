#!/bin/bash
# One recipe as a Slurm job. Activate the environment first; the job runs where it is submitted, with runs/ there.
#   one GPU:        sbatch recipes/slurm/train.sh my_recipe.yaml [section.key=value ...]
#   several GPUs:   sbatch --ntasks-per-node=4 --gres=gpu:4 recipes/slurm/train.sh my_recipe.yaml ...
#   several nodes:  sbatch --nodes=2 --ntasks-per-node=4 --gres=gpu:4 recipes/slurm/train.sh my_recipe.yaml ...
#   no GPU:         sbatch --gres=none recipes/slurm/train.sh my_recipe.yaml ...
# Each process takes one GPU of those its node has for the job (so --gres, not --gpus-per-task); the batch size of a
# recipe is that of one process. Several nodes need this folder, the faces and the environment on a disk they share.
# Add what your cluster asks for (--time, --partition, --account), or copy this file and edit it. Where nodes do not find
# one another, export NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME, the network that they share.
#
# 90 seconds before the time limit training gets SIGTERM, as it does when the job is preempted. It saves a checkpoint
# and ends with exit code 143; the job then goes back into the queue, and later on where it stopped, in the same run
# folder and with the recipe as it was. After `scancel` it stays ended, and what fails is not tried again.
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=2
#SBATCH --signal=TERM@90
#SBATCH --requeue
#SBATCH --open-mode=append

# The run folder is the job's own; after a requeue the recipe is the one that lies in it, overrides included.
PATH=$PATH:$PWD/.venv/bin  # for who has not activated it
runs=runs/$(basename "${1:?which recipe? sbatch train.sh RECIPE [section.key=value ...]}" .yaml)
run=$runs/$(date +%Y%m%d-%H%M%S)-job$SLURM_JOB_ID
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] && started=$(compgen -G "$runs/*-job$SLURM_JOB_ID/recipe.yaml"); then
  run=$(dirname "$started")
  set -- "$started" --resume
fi

# What `accelerate launch` would say, where there are several processes; they meet at a port of the job's own.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000))
launch='[ "$SLURM_NTASKS" -gt 1 ] || exec "$@"
export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS
export LOCAL_WORLD_SIZE=$((SLURM_NTASKS / SLURM_JOB_NUM_NODES))
trap : TERM  # it is for the training, whose exit code counts
"$@"
code=$?
if [ $code -ne 0 ] && [ $code -ne 143 ]; then
  sleep 10  # the first process has to say what is wrong
  scancel --signal=KILL "$SLURM_JOB_ID.$SLURM_STEP_ID"
fi
exit $code'

# One that fails ends the others, with SIGKILL: after SIGTERM they would go back into the queue. One that ends in another
# way does not, since the first process writes the checkpoint, exports and reports for all.
srun --kill-on-bad-exit=0 --wait=0 bash -c "$launch" - fer-hf train --output "$run" "$@"
code=$?

patiently() { for _ in 1 2 3 4 5; do "$@" && break; sleep 5; done; }  # the controller may be busy

# A time limit too short to get anywhere would requeue for ever.
if [ $code -eq 143 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 100 ] &&
  [ "$(patiently squeue --noheader --format=%T --job="$SLURM_JOB_ID")" = RUNNING ]; then
  echo "$(date '+%F %T') $run: stopped by SIGTERM; back into the queue"
  patiently scontrol requeue "$SLURM_JOB_ID"
  sleep 60  # Slurm ends this script
fi
exit $code
