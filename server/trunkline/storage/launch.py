"""
Become a PostgreSQL program that gives up root and does not outlive the process that started it.

    python -I -S launch.py UID GID PARENT PROGRAM [ARGUMENT]...

A program of its own, because this has to happen between fork and exec, where a process with threads
may hardly do anything. The kernel forgets the death signal when the user changes, and gives none to
a process whose parent has died before: hence the order.
"""

import ctypes  # at once: the new user may not be able to read where Python is
import os
import signal
import sys

SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>


def main() -> None:
    uid, gid, parent = (int(word) for word in sys.argv[1:4])
    libc = ctypes.CDLL(None)
    if uid != os.geteuid():
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        # SIGINT: the server disconnects everybody and shuts down in order.
        libc.prctl(SET_DEATH_SIGNAL, signal.SIGINT, 0, 0, 0)
    if os.getppid() == parent:
        os.execv(sys.argv[4], sys.argv[4:])  # noqa: S606 - without a shell is what we want


if __name__ == "__main__":
    main()
