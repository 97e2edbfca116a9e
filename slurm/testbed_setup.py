"""Prepares slurm/testbed: installs packages, finds free ports and writes configuration files."""

from __future__ import annotations

import os
import socket
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

STATE = Path(os.environ.get("SLURM_TESTBED", "/var/lib/skin-gan-slurm")).resolve()
MARKER = STATE / "made-by-slurm-testbed"  # only folders with this file may be deleted
CONF = STATE / "slurm.conf"
MUNGE_SOCKET = STATE / "munge.socket"
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "SLURM_CONF": str(CONF)}
PACKAGES = ["slurmctld", "slurmd", "slurm-client", "slurm-wlm-basic-plugins", "munge"]
ACCOUNTING_PACKAGES = ["slurmdbd", "slurm-wlm-mysql-plugin", "mariadb-server-core", "mariadb-client-core"]
MARIADB = ["--no-defaults", "--user=root", f"--datadir={STATE}/mysql", "--innodb-log-file-size=16M"]
MARIADB_ACCESS = ["--auth-root-authentication-method=socket", "--auth-root-socket-user=root"]
POLICY = Path("/usr/sbin/policy-rc.d")
NO_SERVICES = "#!/bin/sh\n# of slurm/testbed, while it installs packages\nexit 101\n"
ACCOUNTING_CONF = """
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd_port}
AccountingStoragePass={munge}
AccountingStorageTRES=gres/gpu
"""
SLURMDBD_CONF = """
AuthInfo=socket={munge}
DbdHost=localhost
DbdPort={dbd_port}
PidFile={state}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageUser=root
"""


class TestbedError(Exception):
    """A problem that the user can solve; the message says how."""


@dataclass
class Settings:
    """The settings of a testbed; CPUs, GPUs and memory (MB) are per node."""

    nodes: int = 4
    cpus: int = 8
    gpus: int = 2
    mem: int = 16000
    accounting: bool = True
    namespaces: bool = True

    @property
    def node_names(self) -> list[str]:
        return [f"node{i}" for i in range(1, self.nodes + 1)]

    @property
    def summary(self) -> str:
        """The settings in words."""
        lacks = [name for name in ("accounting", "namespaces") if not getattr(self, name)]
        without = f", without {' and '.join(lacks)}" if lacks else ""
        return f"{self.nodes} nodes of {self.cpus} CPUs, {self.gpus} GPUs (fake) and {self.mem} MB{without}"

    @property
    def daemons(self) -> list[str]:
        """All daemons in the order of starting."""
        accounting = ["mariadbd", "slurmdbd"] if self.accounting else []
        return ["munged", *accounting, "slurmctld", *self.node_names]


def run(command: list[str], **variables: str) -> str:
    """The output of a command. Raises CalledProcessError if it fails."""
    env = ENVIRONMENT | variables
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout


def check_machine() -> None:
    """Raise an error on a machine that cannot run a testbed or has another Slurm; changes nothing."""
    if os.geteuid() != 0:
        raise TestbedError("needs root, because Slurm's daemons do")
    if not Path("/etc/debian_version").exists():
        raise TestbedError("needs Debian, because it installs Debian's packages of Slurm")
    for conf in Path("/etc").glob("slurm*/slurm.conf"):
        raise TestbedError(f"this machine has a Slurm already ({conf}): use a machine without one")
    if os.environ.get("SLURM_CONF", str(CONF)) != str(CONF):
        raise TestbedError(f"SLURM_CONF names another Slurm, {os.environ['SLURM_CONF']}: unset it first")
    if len(str(MUNGE_SOCKET)) > 100:
        raise TestbedError(f"the path {STATE} is too long for a socket: set SLURM_TESTBED to a shorter one")


def install(accounting: bool) -> None:
    """Install missing packages without starting their services."""
    known = run(["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n"]).splitlines()
    wanted = PACKAGES + (ACCOUNTING_PACKAGES if accounting else [])
    missing = [package for package in wanted if f"{package} installed" not in known]
    if POLICY.exists() and POLICY.read_text() == NO_SERVICES:  # an earlier installation was killed
        POLICY.unlink()
    if not missing:
        return
    print("testbed: installing", *missing, flush=True)
    variables = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}  # the user's, for the address of a proxy
    with ExitStack() as undo:
        if not POLICY.exists():
            POLICY.write_text(NO_SERVICES)
            undo.callback(POLICY.unlink)
            POLICY.chmod(0o755)
        for command in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
            run(["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120", *command], **variables)


def free_ports(count: int) -> int:
    """The first of `count` consecutive free TCP ports."""
    for start in range(17000, 32000, count):  # below the ports that the kernel gives to outgoing connections
        with ExitStack() as sockets:
            try:
                for port in range(start, start + count):
                    sockets.enter_context(socket.create_server(("", port)))
            except OSError:
                continue
            return start
    raise TestbedError(f"no {count} free TCP ports in a row between 17000 and 32000")


def in_namespaces(host: str, command: str) -> list[str]:
    """Give a node its own host name, /etc/hosts and process ids: all its processes die with process 1."""
    script = f"hostname {host} && mount --bind {STATE}/hosts /etc/hosts && {command}; exit $?"
    kinds = ["--uts", "--mount", "--mount-proc", "--pid"]
    return ["unshare", *kinds, "--fork", "--kill-child", "sh", "-c", script]


def prepare(settings: Settings) -> None:
    """Fill the state folder; turns `settings.namespaces` off if the machine does not allow them."""
    STATE.mkdir(exist_ok=True)
    MARKER.touch()
    spools = [f"spool-{name}" for name in settings.node_names]
    for folder in ("log", "controller", "mysql", "gpus", *spools):
        (STATE / folder).mkdir()
    host = socket.gethostname().split(".")[0]
    hosts = [f"127.0.0.1 localhost {host}", *(f"127.0.1.{i + 1} node{i + 1}" for i in range(settings.nodes))]
    (STATE / "hosts").write_text("\n".join([*hosts, ""]))
    settings.namespaces &= subprocess.run(in_namespaces("probe", "true"), capture_output=True).returncode == 0
    write_configuration(settings, host)
    if settings.accounting:
        command = ["mariadb-install-db", *MARIADB, *MARIADB_ACCESS, "--skip-test-db"]
        run(command, TESTBED_DAEMON="mariadbd")  # for `down` to find it, where this process is killed


def write_configuration(settings: Settings, host: str) -> None:
    port = free_ports(settings.nodes + 2)
    values = {"host": host, "state": STATE, "munge": MUNGE_SOCKET, "port": port, "dbd_port": port + 1}
    template = Path(__file__).with_name("testbed.conf").read_text()
    lines = [(template + (ACCOUNTING_CONF if settings.accounting else "")).format(**values)]
    for i, name in enumerate(settings.node_names, start=1):
        own, address = (name, f"127.0.1.{i}") if settings.namespaces else (host, "127.0.0.1")
        size = f"CPUs={settings.cpus} RealMemory={settings.mem} Gres=gpu:{settings.gpus}"
        lines.append(f"NodeName={name} NodeHostname={own} NodeAddr={address} Port={port + 1 + i} {size}")
    CONF.write_text("\n".join([*lines, ""]))

    for i in range(settings.gpus):  # to Slurm a GPU is any character device, numbered by its name
        (STATE / f"gpus/{i}").symlink_to("/dev/null")
    gpus = f"Name=gpu File={STATE}/gpus/[0-{settings.gpus - 1}] Flags=nvidia_gpu_env\n"
    (STATE / "gres.conf").write_text(gpus if settings.gpus else "")
    secrets = {"munge.key": os.urandom(128), "slurmdbd.conf": SLURMDBD_CONF.format(**values).encode()}
    for path, content in secrets.items():
        (STATE / path).touch(mode=0o600)  # the daemons refuse files that others can read
        (STATE / path).write_bytes(content)
