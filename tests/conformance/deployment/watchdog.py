"""One worker of the real binary is stopped as a stuck thread is, and the watchdog's pings must stop; they go on when it does.

A signal stops a whole process. ptrace(2) stops one thread, which is what a worker in an endless loop or a deadlock looks
like from outside: the other worker and the operators' thread go on turning. Says "skipped" where ptrace is not allowed."""

import ctypes
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from ports import free_port

PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000
PERIOD = 1.0  # WATCHDOG_USEC, in seconds; a beat may be two seconds old.

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def heard(notify, wanted, patience):
    """Whether a message with this line comes in time."""
    end = time.monotonic() + patience
    while (left := end - time.monotonic()) > 0:
        notify.settimeout(left)
        try:
            if wanted in notify.recv(4096).decode().splitlines():
                return True
        except TimeoutError:
            break
    return False


def last_ping(notify, quiet, patience):
    """Waits until no ping has come for `quiet` seconds; False when they go on."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if not heard(notify, "WATCHDOG=1", quiet):
            return True
    return False


def main(binary):
    with tempfile.TemporaryDirectory() as work:
        path = os.path.join(work, "notify")
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(path)
        config = os.path.join(work, "sentinel.yaml")
        with open(config, "w") as f:
            f.write(
                f"workers: 2\nlisteners: {{ admin: '127.0.0.1:{free_port()}' }}\n"
                "gateways: { g: { dialect: stripe, endpoint: 'https://gateway.invalid' } }\n"
                f"routes: [{{ name: r, listen: '127.0.0.1:{free_port()}', dialect: stripe, gateways: [g] }}]\n"
            )
        env = dict(os.environ, NOTIFY_SOCKET=path, WATCHDOG_USEC=str(int(PERIOD * 1e6)))
        child = subprocess.Popen([binary, "run", "--config", config], env=env, stderr=subprocess.DEVNULL)
        try:
            assert heard(notify, "READY=1", 60), "not ready"
            assert heard(notify, "WATCHDOG=1", 60), "no ping from a healthy process"
            tasks = f"/proc/{child.pid}/task"
            names = {t: open(f"{tasks}/{t}/comm").read().strip() for t in os.listdir(tasks)}
            worker = next(int(t) for t, name in names.items() if name == "worker-1")
            if libc.ptrace(PTRACE_SEIZE, worker, None, None) or libc.ptrace(PTRACE_INTERRUPT, worker, None, None):
                print(f"watchdog: skipped, ptrace: {os.strerror(ctypes.get_errno())}")
                return
            os.waitpid(worker, WALL)
            began = time.monotonic()
            assert last_ping(notify, 3 * PERIOD, 60), "the pings go on although a worker is stuck"
            took = time.monotonic() - began - 3 * PERIOD
            assert libc.ptrace(PTRACE_DETACH, worker, None, None) == 0, "detach"
            assert heard(notify, "WATCHDOG=1", 60), "no ping after the worker went on"
            print(f"watchdog: pings stopped {took:.1f} s after worker-1 got stuck (WatchdogSec=1), and went on with it")
        finally:
            child.kill()
            child.wait()


main(sys.argv[1])
