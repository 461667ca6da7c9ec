"""A Slurm cluster of one node on loopback, all of it in a temporary folder, for as long as a test takes."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
SETTINGS = """\
ClusterName=small
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={d_port}
SlurmUser=root
AuthInfo=socket={folder}/munge.sock,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
MpiDefault=none
ReturnToService=2
KillWait=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000
PartitionName=low Nodes=ALL PriorityTier=1 GraceTime=40 Default=YES
PartitionName=high Nodes=ALL PriorityTier=10
"""


@dataclass(frozen=True)
class SmallSlurm:
    """The cluster that runs."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """Variables under which Slurm's commands find it."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def call(self, *command: str) -> str:
        """One of Slurm's commands; what it printed."""
        environment = {**os.environ, **self.environment}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    def jobs(self) -> list[str]:
        """Jobs that run or wait."""
        return self.call("squeue", "--noheader", "--array", "--format=%i").split()

    def log(self) -> str:
        """The end of what the daemons have said."""
        return "\n".join(file.read_text()[-2000:] for file in sorted(self.folder.glob("slurm*.log")))


def why_not() -> str:
    """Why there can be no cluster here; empty if there can."""
    missing = [name for name in (*DAEMONS, "sbatch", "srun") if _path(name) is None]
    if missing:
        return f"{', '.join(missing)} not found (Debian: slurmctld slurmd slurm-client munge)"
    if find_spec("submitit") is None:
        return "submitit is not installed (the extra 'slurm')"
    if os.getuid() != 0:
        return "needs root: slurmd starts jobs for users"
    try:
        address = socket.gethostbyname(socket.gethostname())
    except OSError:
        address = "nothing"
    return "" if address.startswith("127.") else f"this host's name stands for {address}, not for loopback"


@contextmanager
def small_slurm() -> Iterator[SmallSlurm]:
    """Start the daemons; whatever happens, none of them or of their jobs is left at the end."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # a path short enough for sockets
    try:
        folder.chmod(0o755)  # munge refuses a folder that its users cannot enter
        cluster = _start(folder)
        yield cluster
    finally:
        _stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path) -> SmallSlurm:
    cluster = SmallSlurm(folder)
    key = folder / "munge.key"
    key.touch(mode=0o400)
    key.write_bytes(secrets.token_bytes(1024))
    for name in ("state", "spool"):
        (folder / name).mkdir()
    ports = dict(zip(("ctld_port", "d_port"), _free_ports(2), strict=True))
    host = socket.gethostname().partition(".")[0]
    (folder / "slurm.conf").write_text(SETTINGS.format(host=host, folder=folder, **ports))
    files = {"socket": "munge.sock", "key-file": "munge.key", "pid-file": "munged.pid"}
    files |= {"log-file": "munged.log", "seed-file": "munge.seed"}
    environment = {**os.environ, **cluster.environment}
    munge = [str(_path("munged")), *(f"--{name}={folder / file}" for name, file in files.items())]
    for command in (munge, [str(_path("slurmctld"))], [str(_path("slurmd"))]):
        with (folder / "start.log").open("a") as log:  # a pipe would stay open in the daemon
            subprocess.run(command, env=environment, stdout=log, stderr=log, timeout=60, check=True)
    for _ in range(300):
        if "idle" in cluster.call("sinfo", "--noheader", "--format=%t").split():
            return cluster
        time.sleep(0.1)
    raise RuntimeError(f"the node does not come up:\n{cluster.log()}")


def _stop(folder: Path) -> None:
    """End the daemons and what the jobs have left: processes that carry the folder in their environment."""
    ours = [pid for name in DAEMONS if (pid := _pid(folder / f"{name}.pid"))]
    for pid in [*ours, *_with_environment(str(folder / "slurm.conf"))]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _with_environment(text: str) -> list[int]:
    """Processes whose environment names our configuration, but for those that lead to this one."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
        except OSError:
            continue
        if f"SLURM_CONF={text}".encode() in environment and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


def _pid(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _path(command: str) -> str | None:
    return shutil.which(command) or shutil.which(command, path="/usr/sbin:/usr/local/sbin")


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(server.getsockname()[1]) for server in held]
    for server in held:
        server.close()
    return ports
