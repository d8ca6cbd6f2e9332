"""A real SLURM cluster on this machine, on loopback alone: two nodes, two partitions; `high` evicts from `main`.

Everything lies in one short folder below /tmp (unix sockets may not pass 107 characters) and nothing of the system is
changed: no service, no cgroup, no /etc/slurm. The daemons stay in the foreground as children of this process and die
with it; what a killed test run leaves behind (steps, jobs, folders) is removed by the next one. No root is needed.
"""

from __future__ import annotations

import contextlib
import ctypes
import getpass
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "sinfo")
ACCOUNTING = ("slurmdbd", "mariadbd", "mariadb", "mariadb-install-db", "sacct", "sacctmgr")
PACKAGES = "slurmctld slurmd slurm-client munge"
PACKAGES_ACCOUNTING = "slurmdbd mariadb-server-core mariadb-client-core"
NODES = ("n1", "n2")
CPUS, MEMORY_MB, GPUS = 4, 6000, 2  # declared for each node; there may be fewer in truth
PREFIX = "regatta-slurm-"
PATIENCE = float(os.environ.get("REGATTA_PATIENCE", "1"))  # times as long is waited where others use the cores
PATH = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin" + os.pathsep + "/sbin"


def lacking(accounting: bool) -> str:
    """Why there can be no cluster here; empty where there can be one."""
    if not sys.platform.startswith("linux"):
        return "SLURM needs Linux"
    absent = [p for p in PROGRAMS + (ACCOUNTING if accounting else ()) if shutil.which(p, path=PATH) is None]
    packages = f"{PACKAGES} {PACKAGES_ACCOUNTING}" if accounting else PACKAGES
    return f"SLURM is not installed (no {', '.join(absent)}); Debian has it as: {packages}" if absent else ""


class ClusterError(RuntimeError):
    """The cluster does not do what it should; the end of every log is in the message."""


class Cluster:
    """Use as a context manager: started at its beginning, gone without a trace at its end."""

    def __init__(self, accounting: bool) -> None:
        self.accounting = accounting
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Cluster:
        sweep()
        self.root = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))
        (self.root / "owner").write_text(f"{os.getpid()} {_birth(os.getpid())}")
        for name in ("etc", "run", "log", "state", "db", *(f"spool/{node}" for node in NODES)):
            (self.root / name).mkdir(parents=True)
        self.conf = self.root / "etc" / "slurm.conf"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH", "SQUEUE", "SACCT"))}
        self.env = inherited | {"SLURM_CONF": str(self.conf), "PATH": PATH}
        try:
            self._configure()
            self._start_all()
        except BaseException:
            self._clear()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()

    def tell(self, *words: str, check: bool = True, timeout: float = 60) -> str:
        """What a client program of SLURM answers."""
        done = subprocess.run(words, env=self.env, capture_output=True, text=True, timeout=PATIENCE * timeout,
                              check=False)
        if check and done.returncode:
            raise ClusterError(f"{' '.join(words)}: {done.stderr.strip()}\n{self._logs()}")
        return done.stdout

    def jobs(self) -> dict[str, str]:
        """Job -> state, of every job and array task that is pending or at work."""
        lines = self.tell("squeue", "-h", "-r", "-o", "%i %T").splitlines()
        return dict(line.split() for line in lines)

    def wait(self, until: Callable[[], object], what: str, seconds: float = 90) -> None:
        """Wait until something is so; a ClusterError with the logs when it does not come."""
        limit = time.monotonic() + PATIENCE * seconds
        while not until():
            if time.monotonic() > limit:
                raise ClusterError(f"waited {seconds:g} s in vain for {what}; jobs {self.jobs()}\n{self._logs()}")
            time.sleep(0.1)

    def wait_idle(self, seconds: float = 90) -> None:
        self.wait(lambda: not self.jobs(), "an empty queue", seconds)

    def reset(self) -> None:
        """An empty queue and every node in service, whatever was done before."""
        for name in [n for n, process in self.daemons.items() if process.poll() is not None]:
            self._start(name)
        self.tell("scancel", "-u", getpass.getuser(), check=False)
        self.tell("scancel", "-f", "-s", "KILL", "-u", getpass.getuser(), check=False)
        for pid in self._processes(of_jobs=True):  # copies that a dead slurmd left behind
            _kill(pid)
        self.wait_idle()
        for node in NODES:
            if not self._states().get(node, "").startswith("idle"):
                self.tell("scontrol", "update", f"NodeName={node}", "State=RESUME", check=False)
        self.wait(self._ready, "nodes in service")

    def kill_node(self, node: str) -> None:
        """SIGKILL its slurmd; what runs there runs on."""
        self.daemons[f"slurmd.{node}"].kill()
        self.daemons[f"slurmd.{node}"].wait()

    def processes(self, text: str) -> list[int]:
        """Processes of jobs whose command line holds the text."""
        return [pid for pid in self._processes(of_jobs=True) if text in _cmdline(pid)]

    # ------------------------------------------------------------ starting and stopping

    def _start_all(self) -> None:
        self._start("munged")
        if self.accounting:
            self._start("mariadbd")
            self._start("slurmdbd")
        self._start("slurmctld")
        for node in NODES:
            self._start(f"slurmd.{node}")
        self.wait(self._ready, "nodes in service")

    def _start(self, name: str) -> None:
        root, extra = self.root, {}
        if name == "munged":
            words = ["munged", "--foreground", "--force", f"--key-file={root}/etc/munge.key",
                     f"--socket={root}/run/munge.socket", f"--pid-file={root}/run/munged.pid",
                     f"--log-file={root}/log/munged.log", f"--seed-file={root}/run/munged.seed"]
            ready: Callable[[], object] = (root / "run" / "munge.socket").exists
        elif name == "mariadbd":
            options = ["--no-defaults", f"--datadir={root}/db/data", f"--user={getpass.getuser()}",
                       "--innodb-log-file-size=8M"]
            if not (root / "db" / "data").exists():
                self.tell("mariadb-install-db", *options, "--auth-root-authentication-method=socket",
                          f"--auth-root-socket-user={getpass.getuser()}", "--skip-test-db", timeout=120)
            words = ["mariadbd", *options, "--innodb-buffer-pool-size=32M", f"--socket={root}/run/my.sock",
                     f"--pid-file={root}/run/mariadbd.pid", "--skip-networking", "--skip-log-bin",
                     "--innodb-flush-log-at-trx-commit=0", "--innodb-lock-wait-timeout=900"]
            ready = lambda: self._answers("mariadb", "--no-defaults", "-S", f"{root}/run/my.sock", "-e", "select 1")  # noqa: E731
        elif name == "slurmdbd":
            words, extra = ["slurmdbd", "-D"], {"MYSQL_UNIX_PORT": f"{root}/run/my.sock"}
            ready = lambda: self._answers("sacctmgr", "-n", "-P", "show", "cluster")  # noqa: E731
        elif name == "slurmctld":
            words, ready = ["slurmctld", "-D"], lambda: self._answers("sinfo", "-h")
        else:
            words, ready = ["slurmd", "-D", "-N", name.partition(".")[2]], lambda: True
        with (root / "log" / f"{name}.err").open("ab") as log:
            self.daemons[name] = subprocess.Popen(words, env=self.env | extra, stdin=subprocess.DEVNULL, stdout=log,
                                                  stderr=log, preexec_fn=_die_with_parent)
        limit = time.monotonic() + PATIENCE * 60
        while not ready():
            if time.monotonic() > limit or self.daemons[name].poll() is not None:
                raise ClusterError(f"{name} did not come up\n{self._logs()}")
            time.sleep(0.05)

    def _clear(self) -> None:
        """Stop everything, last started first, and remove the folder."""
        if "slurmctld" in self.daemons:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.tell("scancel", "-f", "-s", "KILL", "-u", getpass.getuser(), check=False, timeout=10)
        for name, process in reversed(self.daemons.items()):
            if name.startswith("slurmd."):
                process.kill()  # asked politely it would wait for its steps
        for pid in self._processes(of_jobs=True):
            _kill(pid)
        for process in reversed(self.daemons.values()):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pid in self._processes():
            _kill(pid)
        shutil.rmtree(self.root, ignore_errors=True)

    def _answers(self, *words: str) -> bool:
        try:
            return subprocess.run(words, env=self.env, capture_output=True, timeout=10, check=False).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def _states(self) -> dict[str, str]:
        lines = self.tell("sinfo", "-h", "-N", "-o", "%N %T", check=False).splitlines()
        return dict(line.split() for line in lines)

    def _ready(self) -> bool:
        states = self._states()
        return set(states) == set(NODES) and set(states.values()) <= {"idle", "mixed", "allocated", "completing"}

    def _processes(self, of_jobs: bool = False) -> list[int]:
        """Every process that was started under this cluster: daemons of steps, jobs and what they started."""
        own = {os.getpid(), *(p.pid for p in self.daemons.values())}
        return [pid for pid in _under(self.conf, of_jobs) if pid not in own]

    def _logs(self) -> str:
        files = sorted(self.root.glob("log/*"))
        return "\n".join(f"== {p.name}\n{p.read_text(errors='replace')[-1500:]}" for p in files)

    # ------------------------------------------------------------ configuration

    def _configure(self) -> None:
        key = self.root / "etc" / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        (self.root / "etc" / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")
        address, spread = own_address()
        base = free_ports(3 + len(NODES))
        self.conf.write_text(self._slurm_conf(address, spread, base))
        if self.accounting:
            path = self.root / "etc" / "slurmdbd.conf"
            path.touch(0o600)
            path.write_text(f"""\
AuthType=auth/munge
AuthInfo=socket={self.root}/run/munge.socket
DbdHost=localhost
DbdAddr={address}
DbdPort={base + 2}
SlurmUser={getpass.getuser()}
{spread}
PidFile={self.root}/run/slurmdbd.pid
LogFile={self.root}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser={getpass.getuser()}
StorageLoc=slurm_acct_db
""")

    def _slurm_conf(self, address: str, spread: str, base: int) -> str:
        root, user = self.root, getpass.getuser()
        accounting = (f"AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost={address}\n"
                      f"AccountingStoragePort={base + 2}\n"
                      f"AccountingStoragePass={root}/run/munge.socket"  # with munge it is the socket's path
                      if self.accounting else "AccountingStorageType=accounting_storage/none")
        nodes = "\n".join(
            f"NodeName={name} NodeHostname=localhost NodeAddr={address} Port={base + 3 + i} CPUs={CPUS} "
            f"RealMemory={MEMORY_MB} Gres=gpu:{GPUS} State=UNKNOWN" for i, name in enumerate(NODES))
        return f"""\
ClusterName=regatta
SlurmctldHost=localhost({address})
SlurmctldPort={base}
SlurmdPort={base + 1}
SlurmUser={user}
SlurmdUser={user}
{spread}
AuthType=auth/munge
# a requeued job waits for cred_expire seconds; below 5 it counts as 120
AuthInfo=socket={root}/run/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/run/slurmctld.pid
SlurmdPidFile={root}/run/slurmd.%n.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd.%n.log
MailProg=/bin/true
# no cgroups: works in any container
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SlurmdParameters=config_overrides
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
# without it a job takes a whole node's memory
DefMemPerCPU={MEMORY_MB // CPUS}
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=UsePss,OverMemoryKill
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# or a job that is evicted gets SIGTERM alone
SlurmctldParameters=preempt_send_user_signal
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
KillWait=3
SlurmdTimeout=10
MinJobAge=3600
MaxArraySize=1001
JobRequeue=1
# other ids than an earlier cluster gave: files are named by them
FirstJobId={random.SystemRandom().randrange(1, 60_000_000)}
{accounting}
GresTypes=gpu
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=10
PartitionName=high Nodes=ALL Default=NO MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


def own_address() -> tuple[str, str]:
    """(where the daemons listen, the line of the configuration that keeps them from listening everywhere).

    With NoInAddrAny a daemon, and srun, listen at the address that this machine's own name stands for. Where that is
    another address of loopback, srun would be called back in vain, so the line has to go.
    """
    try:
        address = socket.gethostbyname(socket.gethostname())
    except OSError:
        raise ClusterError("this machine's own name stands for no address; /etc/hosts should name it") from None
    if address.startswith("127.") and address != "127.0.0.1":
        return "127.0.0.1", "# CommunicationParameters: none"
    return address, "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny"


def free_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    for _ in range(200):
        base = random.SystemRandom().randrange(20_000, 30_000)
        with contextlib.ExitStack() as stack:
            try:
                for port in range(base, base + count):
                    stack.enter_context(socket.socket()).bind(("", port))
            except OSError:
                continue
        return base
    raise ClusterError(f"no {count} free ports in a row")


def sweep() -> None:
    """End and remove the clusters of test runs that were killed."""
    for folder in Path("/tmp").glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, ValueError):
            pid, born = (folder / "owner").read_text().split()
            if _birth(int(pid)) != born:
                for left in _under(folder / "etc" / "slurm.conf"):
                    _kill(left)
                shutil.rmtree(folder, ignore_errors=True)


def _under(conf: Path, of_jobs: bool = False) -> Iterator[int]:
    wanted = f"SLURM_CONF={conf}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "environ").read_bytes().split(b"\0")
            if wanted in words and (not of_jobs or any(w.startswith(b"SLURM_JOB_ID=") for w in words)):
                yield int(entry.name)


def _cmdline(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _birth(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _kill(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


_LIBC = ctypes.CDLL(None)


def _die_with_parent() -> None:
    """In a daemon about to be started: SIGKILL when the tests' process ends, however it ends."""
    _LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
