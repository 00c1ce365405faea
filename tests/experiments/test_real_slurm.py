"""The same against a real Slurm: one node, begun and ended by the test. Needs root and Debian's packages slurm-wlm and munge."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.experiments.conftest import count, notes, wait_for

pytestmark = pytest.mark.slow
pytest.importorskip("submitit")
DAEMONS = ("munged", "slurmctld", "slurmd")
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldPort={control}
SlurmdPort={node}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MaxArraySize=3
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run munged, slurmctld and slurmd, whose arrays have at most three jobs, and name them in SLURM_CONF."""
    search = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
    programs = {name: shutil.which(name, path=search) for name in DAEMONS}
    if not all(programs.values()) or os.geteuid() != 0:
        pytest.skip("needs root, and the packages slurm-wlm and munge")
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "key").write_bytes(os.urandom(1024))
    (folder / "key").chmod(0o400)
    ports = {"control": free_port(), "node": free_port()}
    (folder / "slurm.conf").write_text(CONF.format(folder=folder, host=socket.gethostname().partition(".")[0], **ports))
    files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    munge = ["--foreground", "--force", *[f"--{key}={folder / name}" for key, name in files.items()]]
    with pytest.MonkeyPatch.context() as patch, (folder / "daemons.log").open("w") as log:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        running: list[subprocess.Popen[bytes]] = []
        try:
            for name, arguments in zip(DAEMONS, (munge, ["-D"], ["-D"]), strict=True):
                running.append(subprocess.Popen([str(programs[name]), *arguments], stdout=log, stderr=log))
                time.sleep(1)
            wait_for(lambda: "idle" in answer("sinfo", "--noheader", "--format=%T"))
            yield
        finally:
            for daemon in reversed(running):
                daemon.terminate()
                daemon.wait(30)


def answer(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout


def running() -> list[str]:
    """Return the numbers of the jobs that Slurm runs."""
    return answer("squeue", "--noheader", "--array", "--states=R", "--format=%i").split()


SLURM = {"where": {"class": "slurm", "memory_gib": 0.5}, "splits": 2, "common": {"steps": 10, "pause": 0.5}}


def test_arrays_are_cut_and_a_preempted_job_resumes_although_the_runner_was_killed(cluster, begin):
    runner = begin(**SLURM)
    wait_for(lambda: len(count("begin")) == 2)
    time.sleep(1)
    preempted = running()[0]
    subprocess.run(["scancel", "--signal=USR2", preempted], check=True)
    runner.kill()
    runner.communicate()
    out, err = begin(**SLURM).communicate(timeout=400)
    assert err == "", out
    assert sorted(count("begin").values()) == sorted(count("end").values()) == [1] * 4
    assert list(count("resume").values()) == [1]
    numbers = [path.read_text() for path in Path("runs/small").glob("*-*.slurm")]
    assert len(numbers) == 4
    assert len({number.partition("_")[0] for number in numbers}) == 2  # an array of three and a single job


def test_an_array_that_the_cluster_refuses_is_one_clear_line(cluster, begin):
    where = {"class": "slurm", "partition": "nowhere"}
    runner = begin(**SLURM | {"where": where})
    _, err = runner.communicate(timeout=100)
    assert (runner.returncode, err.count("\n"), notes()) == (2, 1, [])
    assert "invalid partition" in err
    assert "3 job(s)" in err
