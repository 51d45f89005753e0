"""A steady flow of small UDP packets, and a sink: ``flow.py send|sink ADDRESS [PPS SECONDS]``.

Sends batches (sendmmsg(2)) on a fixed beat, so that it takes what it needs and no more.
"""

from __future__ import annotations

import ctypes
import socket
import sys
import time

_PORT = 9999
_BATCH = 64
_SIZE = 64


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.POINTER(_Vector)),
        ("count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    _fields_ = (("header", _Header), ("sent", ctypes.c_uint))


def send(address: str, packets_per_second: int, seconds: float) -> None:
    """Send so many packets in a second, for so long."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.connect((address, _PORT))
    data = ctypes.create_string_buffer(_SIZE)
    vector = _Vector(ctypes.addressof(data), _SIZE)
    header = _Header(None, 0, ctypes.pointer(vector), 1, None, 0, 0)
    batch = (_Message * _BATCH)(*[_Message(header, 0) for _ in range(_BATCH)])
    sendmmsg = ctypes.CDLL(None).sendmmsg
    beat = _BATCH / packets_per_second
    due = time.monotonic()
    end = due + seconds
    while due < end:
        sendmmsg(opened.fileno(), batch, _BATCH, 0)
        due += beat
        left = due - time.monotonic()
        if left > 0:
            time.sleep(left)


def sink(address: str) -> None:
    """Own the port and read nothing: what does not fit the buffer is dropped behind the path."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    opened.bind((address, _PORT))
    time.sleep(3600)


if __name__ == "__main__":
    if sys.argv[1] == "sink":
        sink(sys.argv[2])
    else:
        send(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
