"""`fer-hf study --slurm` on a real Slurm: its daemons run on this machine, in a folder of their own."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from face_folder import write_faces

from fer_hf.recipe_file import shipped_recipes
from fer_hf.run import Run

ROOT = Path(__file__).parents[1]
PATIENCE = 600  # seconds, for machines that do much else
RECIPE = """
model: {name: test_resnet, pretrained: false, image_size: 32}
data: {source: "folder:faces"}
train: {num_train_epochs: 6, per_device_train_batch_size: 8, save_steps: 2, report_to: []}
evaluate: {splits: [test]}
"""
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
KillWait=3
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(
        not (shutil.which("slurmctld") and shutil.which("slurmd") and shutil.which("munged")) or os.geteuid() != 0,
        reason="needs Slurm's daemons and root: apt-get install slurm-wlm munge",
    ),
]


def call(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_for(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen in {PATIENCE} s\n{call('squeue', '--all')}"
        time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """munged, slurmctld and slurmd, one node with two CPUs; SLURM_CONF leads all commands to them."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # not tmp_path: the path of a socket is short
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    conf = folder / "slurm.conf"
    host = socket.gethostname().partition(".")[0]
    conf.write_text(CONFIGURATION.format(host=host, folder=folder, ports=[free_port(), free_port()]))
    munge = [f"--{name}={folder}/munge.{end}" for name, end in [("key-file", "key"), ("socket", "socket")]]
    munge += [f"--{name}={folder}/munge.{end}" for name, end in [("pid-file", "pid"), ("seed-file", "seed")]]
    daemons = [
        ["munged", "--foreground", "--force", *munge, f"--log-file={folder}/munge.log"],
        ["slurmctld", "-D", "-c", "-f", conf],
        ["slurmd", "-D", "-c", "-f", conf],
    ]
    before, started = os.environ.get("SLURM_CONF"), []
    os.environ["SLURM_CONF"] = str(conf)
    try:
        for command in daemons:
            with open(folder / f"{command[0]}.out", "wb") as log:
                started.append(subprocess.Popen(command, stdout=log, stderr=log))
            wait_for((folder / "munge.socket").exists, "the start of munged")
        wait_for(lambda: "idle" in subprocess.getoutput("sinfo --noheader"), "the start of Slurm")
        yield folder
        call("scancel", "--user=root", "--full")
        wait_for(lambda: not call("squeue", "--noheader"), "the end of the jobs")
    finally:
        for daemon in reversed(started):
            daemon.terminate()
            daemon.wait(30)
        os.environ.pop("SLURM_CONF") if before is None else os.environ.update(SLURM_CONF=before)
        shutil.rmtree(folder)


def job_of(out: str) -> str:
    assert out.startswith("Job "), out
    return out.split()[1].rstrip(":")


def restarts(task: str) -> int:
    return int(call("scontrol", "show", "job", "--oneliner", task).partition(" Restarts=")[2].split()[0])


def test_an_array_of_two_runs_of_which_one_is_requeued(cluster, cli, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    write_faces(tmp_path / "faces", train=8, validation=2, test=3)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    (tmp_path / "two.yaml").write_text("recipe: tiny.yaml\nmatrix:\n  train.seed: [0, 1]\n")
    code, out, err = cli("study", "two.yaml", "--slurm", "--slurm-options", "--cpus-per-task=1")
    assert code == 0, err
    job, runs = job_of(out), [Run(tmp_path / "runs" / "two" / f"seed={seed}") for seed in (0, 1)]

    wait_for(lambda: [*runs[0].checkpoints.glob("checkpoint-*/manifest.json")], "a checkpoint")
    call("scancel", "--signal=TERM", f"{job}_0")
    wait_for(lambda: all(run.metrics().get("finished") for run in runs), "the end of both runs")
    wait_for(lambda: not call("squeue", "--noheader"), "the end of both tasks")

    assert (restarts(f"{job}_0"), restarts(f"{job}_1")) == (1, 0)
    resumed = runs[0].metrics()["training"]["resumed_at_steps"]
    assert len(resumed) == 1
    assert runs[1].metrics()["training"]["resumed_at_steps"] == []
    logs = [(tmp_path / "runs" / "two" / "logs" / f"seed={seed}.log").read_text() for seed in (0, 1)]
    assert f"Stopped by SIGTERM after step {resumed[0]}" in logs[0]
    assert f"resuming from checkpoint-{resumed[0]}" in logs[0]
    assert "metrics: runs/two/seed=0/metrics.json" in logs[0]
    assert "metrics: runs/two/seed=1/metrics.json" in logs[1]
    assert "seed=0" not in logs[1]
    assert cli("study", "two.yaml", "--list")[1].split() == ["0", "seed=0", "finished", "1", "seed=1", "finished"]
    assert cli("study", "two.yaml", "--slurm")[1] == "All are finished.\n"


STUBBORN = """
import pathlib, signal, sys, time
def save(*_):
    print("saved", flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
print("began", sys.argv[1:], flush=True)
time.sleep(300)
"""


def test_what_is_cancelled_stays_so_and_what_fails_is_not_tried_again(cluster, tmp_path):
    script = shipped_recipes() / "slurm" / "study.sh"
    submit = ["sbatch", "--parsable", "--cpus-per-task=1", "--array=1", f"--output={tmp_path}/%a", script, tmp_path]
    job = call(*submit, "first second", sys.executable, "-c", STUBBORN).strip()
    log = tmp_path / "second.log"
    wait_for(lambda: log.is_file() and log.read_text(), "the start")
    assert log.read_text() == "began ['--entry', 'second']\n"
    call("scancel", f"{job}_1")
    wait_for(lambda: not call("squeue", "--noheader"), "the end")
    assert "JobState=CANCELLED" in call("scontrol", "show", "job", f"{job}_1")
    assert restarts(f"{job}_1") == 0

    job = call(*submit, "first third", sys.executable, "-c", "import sys; sys.exit(2)").strip()
    wait_for(lambda: not call("squeue", "--noheader"), "the end")
    assert "JobState=FAILED" in call("scontrol", "show", "job", f"{job}_1")
    assert restarts(f"{job}_1") == 0
