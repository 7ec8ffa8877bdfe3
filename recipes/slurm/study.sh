#!/bin/bash
# One task of a study's job array; `fer-hf study STUDY --slurm` copies this file to runs/<study>/slurm.sh and submits it
# with the entries that are not finished. Edit that copy (modules, partition, resources), then submit again. For one
# recipe there is train.sh.
# For several GPUs per run: --slurm-options "--gres=gpu:4 --ntasks-per-node=4" starts one process for each.
#
# 90 seconds before the time limit training gets SIGTERM, as it does when the job is preempted. It saves a checkpoint
# and ends with exit code 143; the task then goes back into the queue, and later on where it stopped. After `scancel`
# the job is no longer running, so it stays ended.
#SBATCH --signal=TERM@90
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --cpus-per-task=2

# Arguments: the folder of the logs, the names of all entries (as they were when the study was submitted: an edit of its
# file does not mix up tasks that wait), and the command.
logs=$1 entries=($2)
shift 2
task=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
entry=${entries[$SLURM_ARRAY_TASK_ID]}

# What `accelerate launch` would say, where there are several processes; a port of the task's own.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
export MASTER_ADDR=${SLURMD_NODENAME:-localhost} MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000))
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
srun --kill-on-bad-exit=0 --wait=0 --output="$logs/$entry.log" bash -c "$launch" - "$@" --entry "$entry"
code=$?

patiently() { for _ in 1 2 3 4 5; do "$@" && break; sleep 5; done; }  # the controller may be busy

# A time limit too short to get anywhere would requeue for ever.
if [ $code -eq 143 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 100 ] &&
  [ "$(patiently squeue --noheader --format=%T --job="$task")" = RUNNING ]; then
  echo "$(date '+%F %T') $entry: stopped by SIGTERM; back into the queue"
  patiently scontrol requeue "$task"
  sleep 60  # Slurm ends this script
fi
exit $code
