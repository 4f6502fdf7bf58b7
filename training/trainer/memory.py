"""The process's memory: kept for the next step instead of given back after each."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGEST = 2**31 - 1
ONE_GB = 2**30


def keep_freed_memory() -> None:
    """Let malloc keep the memory of freed tensors, where it is glibc's; elsewhere nothing changes.

    A training step on a CPU frees and asks for the same hundreds of megabytes again and again. Given back to the
    system in between, each page of them costs a fault: 5 % of the step of ResNet-32 with three experts.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, ONE_GB)
        libc.mallopt(M_TRIM_THRESHOLD, LARGEST)
