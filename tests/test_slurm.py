"""`fer-hf study --slurm` and `train.sh` on a real Slurm: its daemons run on this machine, in a folder of their own."""

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

from fer_hf.recipe.load import shipped_recipes
from fer_hf.runs.folder import Run

ROOT = Path(__file__).parents[1]
PATIENCE = 600  # seconds, for machines that do much else
RECIPE = """
model: {name: test_resnet, pretrained: false, image_size: 32}
data: {source: "folder:faces"}
train: {num_train_epochs: 16, per_device_train_batch_size: 8, save_steps: 2, report_to: []}
evaluate: {splits: [test]}
"""
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthInfo=socket={folder}/munge.socket,cred_expire=10
SlurmctldPort={ports[0]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
KillWait=3
WaitTime=1
MessageTimeout=100
BatchStartTimeout=300
GresTypes=gpu
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0
NodeName=DEFAULT CPUs=2 Gres=gpu:2 State=UNKNOWN
NodeName={host} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]}
NodeName={host}-b NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(
        not (shutil.which("slurmctld") and shutil.which("slurmd") and shutil.which("munged")) or os.geteuid() != 0,
        reason="needs Slurm's daemons and root: apt-get install slurm-wlm munge",
    ),
]


def call(*command: object) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_for(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen in {PATIENCE} s\n{call('squeue', '--all')}"
        time.sleep(0.2)


def free_ports(number: int) -> list[int]:
    found = [socket.socket() for _ in range(number)]
    for each in found:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in found]
    for each in found:
        each.close()
    return ports


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """munged, slurmctld and two slurmd, each a node of two CPUs and two GPUs that are none; SLURM_CONF leads there."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # not tmp_path: the path of a socket is short
    (folder / "state").mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    conf = folder / "slurm.conf"
    host = socket.gethostname().partition(".")[0]
    conf.write_text(CONFIGURATION.format(host=host, folder=folder, ports=free_ports(3)))
    (folder / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")
    munge = [f"--{name}={folder}/munge.{end}" for name, end in [("key-file", "key"), ("socket", "socket")]]
    munge += [f"--{name}={folder}/munge.{end}" for name, end in [("pid-file", "pid"), ("seed-file", "seed")]]
    daemons = [
        ["munged", "--foreground", "--force", *munge, f"--log-file={folder}/munge.log"],
        ["slurmctld", "-D", "-c", "-f", conf],
        *(["slurmd", "-D", "-c", "-N", node, "-f", conf] for node in (host, f"{host}-b")),
    ]
    before, started = os.environ.get("SLURM_CONF"), []
    os.environ["SLURM_CONF"] = str(conf)
    try:
        for command in daemons:
            with open(folder / f"{command[0]}.out", "ab") as log:
                started.append(subprocess.Popen(command, stdout=log, stderr=log))
            wait_for((folder / "munge.socket").exists, "the start of munged")
        idle = "sinfo --noheader --states=idle --format=%D"
        wait_for(lambda: subprocess.getoutput(idle).strip() == "2", "the start of Slurm")
        yield folder
        call("scancel", "--user=root", "--full")
        wait_for(lambda: not call("squeue", "--noheader"), "the end of the jobs")
    finally:
        for daemon in reversed(started):
            daemon.terminate()
            daemon.wait(PATIENCE)
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
    wait_for(lambda: all(run.metrics.finished for run in runs), "the end of both runs")
    wait_for(lambda: not call("squeue", "--noheader"), "the end of both tasks")

    assert (restarts(f"{job}_0"), restarts(f"{job}_1")) == (1, 0)
    resumed = runs[0].metrics.training.resumed_at_steps
    assert len(resumed) == 1
    assert runs[1].metrics.training.resumed_at_steps == []
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


TRAIN = shipped_recipes() / "slurm" / "train.sh"


@pytest.fixture
def submit(cluster, tmp_path, monkeypatch) -> Callable[..., str]:
    """Submit the training of a tiny recipe by processes that share no CPU; returns the id of the job."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")  # where there is a GPU, it is one, and not Slurm's
    write_faces(tmp_path / "faces", train=8, validation=2, test=3)
    (tmp_path / "tiny.yaml").write_text(RECIPE)

    def call_sbatch(*options: str, epochs: int) -> str:
        options = ("--parsable", "--gres=none", "--cpus-per-task=1", *options)
        return call("sbatch", *options, TRAIN, "tiny.yaml", f"train.num_train_epochs={epochs}").strip()

    return call_sbatch


def test_two_nodes_train_one_recipe_and_go_on_after_a_requeue(submit, tmp_path):
    job = submit("--nodes=2", "--ntasks-per-node=1", epochs=12)
    wait_for(lambda: [*tmp_path.glob("runs/*/*/checkpoints/checkpoint-*/manifest.json")], "a checkpoint")
    (tmp_path / "tiny.yaml").unlink()  # or edited, for the next experiment
    call("scancel", "--signal=TERM", job)
    wait_for(lambda: not call("squeue", "--noheader"), "the end")

    log = (tmp_path / f"slurm-{job}.out").read_text()
    assert "JobState=COMPLETED" in call("scontrol", "show", "job", job), log
    assert restarts(job) == 1
    [run] = Run.all(tmp_path / "runs" / "tiny")
    assert run.path.name.endswith(f"-job{job}")
    metrics = run.metrics
    assert metrics.finished
    assert metrics.recipe["train"]["num_train_epochs"] == 12
    assert metrics.training.processes == 2
    [step] = metrics.training.resumed_at_steps
    assert f"Stopped by SIGTERM after step {step}" in log
    assert f"resuming from checkpoint-{step}" in log


@pytest.fixture
def stand_in(cluster, tmp_path, monkeypatch) -> Callable[[str], None]:
    """Work in an empty folder whose .venv has a `fer-hf` of the given Python code, where PATH has none."""
    monkeypatch.chdir(tmp_path)
    paths = os.environ["PATH"].split(os.pathsep)
    monkeypatch.setenv("PATH", os.pathsep.join(path for path in paths if not (Path(path) / "fer-hf").exists()))

    def write(code: str) -> None:
        command = tmp_path / ".venv" / "bin" / "fer-hf"
        command.parent.mkdir(parents=True, exist_ok=True)
        command.write_text(f"#!{sys.executable}\n{code}")
        command.chmod(0o755)

    return write


LAUNCHED = """
import os, sys, time
names = "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "CUDA_VISIBLE_DEVICES"
print(*(os.environ.get(name) for name in names), flush=True)
if os.environ.get("RANK", "0") == "0":
    time.sleep(3)  # the others have ended
    print("reported", sys.argv[1:2] + sys.argv[4:], os.environ["MASTER_PORT"])
"""


def test_each_process_is_told_its_place(stand_in, tmp_path):
    stand_in(LAUNCHED)
    host = socket.gethostname().partition(".")[0]
    layouts = {
        (): [f"None None None None {host} 0"],
        ("--ntasks-per-node=2", "--gres=gpu:2"): [f"{rank} {rank} 2 2 {host} 0,1" for rank in range(2)],
        ("--nodes=2", "--ntasks-per-node=2", "--gres=gpu:2"): [f"{r} {r % 2} 4 2 {host} 0,1" for r in range(4)],
    }
    options = ["--parsable", f"--nodelist={host}", "--cpus-per-task=1"]
    submit = [["sbatch", *options, *layout, TRAIN, "faces/my.yaml", "train.seed=1"] for layout in layouts]
    jobs = [call(*command).strip() for command in submit]
    wait_for(lambda: not call("squeue", "--noheader"), "the end")
    for job, expected in zip(jobs, layouts.values(), strict=True):
        lines = (tmp_path / f"slurm-{job}.out").read_text().splitlines()
        reported = f"reported ['train', 'faces/my.yaml', 'train.seed=1'] {20000 + int(job)}"
        assert sorted(line for line in lines if not line.startswith("srun:")) == [*expected, reported]


def test_a_training_that_is_cancelled_stays_so_and_one_that_fails_is_not_tried_again(stand_in, tmp_path):
    stand_in(STUBBORN)
    job = call("sbatch", "--parsable", TRAIN, "tiny.yaml").strip()
    log = tmp_path / f"slurm-{job}.out"
    wait_for(lambda: log.is_file() and "began" in log.read_text(), "the start")
    call("scancel", job)
    wait_for(lambda: not call("squeue", "--noheader"), "the end")
    assert "JobState=CANCELLED" in call("scontrol", "show", "job", job)
    assert restarts(job) == 0

    stand_in("import os, sys, time; sys.exit(2) if os.environ['RANK'] == '1' else time.sleep(300)")
    job = call("sbatch", "--parsable", "--ntasks=2", "--cpus-per-task=1", TRAIN, "tiny.yaml").strip()
    wait_for(lambda: not call("squeue", "--noheader"), "the end")
    assert "JobState=FAILED" in call("scontrol", "show", "job", job)
    assert restarts(job) == 0
