"""A real SLURM on this machine, of two nodes with more CPUs than there are and GPUs that only look like such."""

import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

CONFIG = """
ClusterName=karyon
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,sched_min_interval=1000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MinJobAge=3600
ReturnToService=2
SlurmdParameters=config_overrides
LaunchParameters=disable_send_gids
KillWait=5
UnkillableStepTimeout=900
# On a machine that has much else to do.
MessageTimeout=60
BatchStartTimeout=300
SlurmdTimeout=600
TCPTimeout=30
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port1} CPUs=8 RealMemory=4000 Gres=gpu:2
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={port2} CPUs=8 RealMemory=4000 Gres=gpu:2
PartitionName=main Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=60
PartitionName=high Nodes=n[1-2] MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""

# States that a job does not come out of.
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")


class VirtualCluster:
    """Starts a cluster; its commands are run as a user of it would type them.

    Args:
        folder: for its files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ports = [free_port() for _ in range(3)]
        config = CONFIG.format(
            folder=folder,
            host=socket.gethostname().split(".")[0],
            user="root",
            port=ports[0],
            port1=ports[1],
            port2=ports[2],
        )
        (folder / "slurm.conf").write_text(config)
        (folder / "cgroup.conf").write_text("CgroupAutomount=no\nConstrainCores=no\nConstrainRAMSpace=no\n")
        (folder / "gres.conf").write_text(f"NodeName=n[1-2] Name=gpu File={folder}/gpu[0-1]\n")
        for name in ("state", "n1", "n2"):
            (folder / name).mkdir()
        for number in (0, 1):
            os.mknod(folder / f"gpu{number}", 0o20666, os.makedev(1, 3))
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "SBATCH"))},
            "SLURM_CONF": str(folder / "slurm.conf"),
            # The nodes' names are known to SLURM alone.
            "MASTER_ADDR": "127.0.0.1",
            "CHECK": "no",
        }

    def __enter__(self) -> "VirtualCluster":
        for command in (["slurmctld", "-c"], ["slurmd", "-N", "n1", "-c"], ["slurmd", "-N", "n2", "-c"]):
            subprocess.run(command, env=self.environment, check=True, timeout=30)
        self.wait(lambda: self.run("sinfo", "-h", "-p", "main", "-t", "idle", "-o", "%D") == "2", "two idle nodes", 60)
        return self

    def __exit__(self, *_: object) -> None:
        for job in self.run("squeue", "-h", "-o", "%A").split():
            self.run("scancel", "-s", "KILL", job)
        for pid_file in ("n1.pid", "n2.pid", "slurmctld.pid"):
            pid = int((self.folder / pid_file).read_text())
            os.kill(pid, 15)
            deadline = time.monotonic() + 20
            while (self.folder / pid_file).exists() and time.monotonic() < deadline:
                time.sleep(0.1)

    def run(self, *command: object, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
        """Runs a command; returns what it prints, and fails where it does."""
        done = subprocess.run(
            list(map(str, command)),
            cwd=cwd,
            env={**self.environment, **(env or {})},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0 or "can not be altered now" in done.stderr, done.stderr
        return done.stdout.strip()

    def wait(self, condition: Callable[[], bool], what: str, timeout: float = 600) -> None:
        """Waits until a condition holds."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                seen = [self.run(*command) for command in (["squeue"], ["sinfo", "-l"], ["sinfo", "-R"])]
                raise AssertionError("\n".join([f"waited in vain for {what}", *seen]))
            time.sleep(0.2)

    def seen(self, job: str) -> str:
        """All that SLURM says of a job, and what the job has printed."""
        shown = self.run("scontrol", "show", "job", job)
        output = re.search(r"StdOut=(.*)", shown)
        path = Path(output[1]) if output else None
        return "\n".join([shown, path.read_text() if path and path.is_file() else ""])

    def field(self, job: str, name: str) -> str:
        """What SLURM says of a job, such as its Restarts."""
        found = re.search(rf"\b{name}=(\S*)", self.run("scontrol", "show", "job", job))
        assert found
        return found[1]

    def wait_for(self, job: str, state: str, timeout: float = 600) -> None:
        """Waits until a job is in a state."""

        def is_so() -> bool:
            found = self.field(job, "JobState")
            assert found == state or found not in ENDED, "\n".join([f"not {state}:", self.seen(job)])
            return found == state

        self.wait(is_so, f"job {job} {state}", timeout)

    def wait_for_restart(self, job: str, restarts: int) -> None:
        """Waits until a job was queued again, and lets it start without the two minutes that SLURM waits."""

        def queued_again() -> bool:
            assert self.field(job, "JobState") != "FAILED", self.seen(job)
            return self.field(job, "Restarts") == str(restarts)

        self.wait(queued_again, f"restart {restarts} of job {job}")
        self.wait(lambda: self.field(job, "JobState") in ("PENDING", "RUNNING"), f"job {job} being queued again")
        if self.field(job, "JobState") == "PENDING":
            # Not at once: a node refuses a job that it ended within the same second.
            self.run("scontrol", "update", f"jobid={job}", "starttime=now+2")
        self.wait_for(job, "RUNNING")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
