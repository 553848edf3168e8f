#!/usr/bin/env python3
"""A rank of today's Python stacks: the packed broadcast of vLLM over plain ncclBroadcast.

Both sides work out by themselves which tensors share a buffer: it closes once its size exceeds the
target, the tensor that crossed it included. No gates, no checksums, no word of packcast.

compat_check.py runs this against packcast; by hand it takes commands, one a line:

  id                               -> id HEX         a new unique ID
  join HEX                         -> joined
  send LIST DATA [BUFFER [COUNT]]  -> sent BROADCASTS SECONDS     the root
  take LIST FILE [BUFFER [COUNT]]  -> took BROADCASTS SECONDS     the others
  end

LIST is a JSON list of [name, dtype, shape]; DATA and FILE are all tensors' bytes end to end. BUFFER
is in bytes (default 1 GiB), COUNT how many (default 2). The root holds tensors with "strided" in
their name as views that are not contiguous.
"""

import argparse
import contextlib
import ctypes
import faulthandler
import json
import math
import os
import socket
import struct
import sys
import time
import traceback

BUFFER_BYTES = 1 << 30
BUFFER_COUNT = 2

# Our short names: bytes of an element, torch's name.
DTYPES = {
    "bool": (1, "bool"), "u8": (1, "uint8"), "i8": (1, "int8"), "i64": (8, "int64"),
    "bf16": (2, "bfloat16"), "f16": (2, "float16"), "f32": (4, "float32"),
    "f8e4m3": (1, "float8_e4m3fn"), "f8e5m2": (1, "float8_e5m2"),
}


class Row:
    """What a consumer knows of a tensor before it comes."""

    def __init__(self, name, dtype, shape):
        self.name, self.dtype, self.shape = name, dtype, shape
        self.bytes = math.prod(shape) * DTYPES[dtype][0]


def load_rows(path):
    with open(path) as file:
        return [Row(*row) for row in json.load(file)]


def groups(rows, target):
    """The rows of one buffer after another."""
    group, filled = [], 0
    for row in rows:
        group.append(row)
        filled += row.bytes
        if filled > target:
            yield group
            group, filled = [], 0
    if group:
        yield group


def produce(rows, tensors, memory, wire, target=BUFFER_BYTES, count=BUFFER_COUNT):
    """Sends the tensors of the rows; returns the number of broadcasts."""
    slots, packed, broadcasts, first = memory.slots(count), [None] * count, 0, 0
    for group in groups(rows, target):
        slot = broadcasts % count
        with memory.turn(slots[slot]):  # what was sent from this slot has left
            parts = [memory.flat(tensor) for tensor in tensors[first:first + len(group)]]
            packed[slot] = memory.cat(parts)
            wire.broadcast(packed[slot])
        first += len(group)
        broadcasts += 1
    memory.drain(slots)
    return broadcasts


def consume(rows, memory, wire, target=BUFFER_BYTES, count=BUFFER_COUNT, load=None):
    """Receives the tensors of the rows; returns them and the number of broadcasts.

    With `load`, called as load(row, its bytes in the buffer), they are not kept.
    """
    slots, packed, tensors, broadcasts = memory.slots(count), [None] * count, [], 0
    for group in groups(rows, target):
        slot = broadcasts % count
        with memory.turn(slots[slot]):  # what came into this slot was taken out
            sizes = [row.bytes for row in group]
            packed[slot] = memory.empty(sum(sizes))
            wire.broadcast(packed[slot])
            for row, part in zip(group, memory.split(packed[slot], sizes)):
                if load is None:
                    tensors.append(memory.tensor(part, row))
                else:
                    load(row, part)
        broadcasts += 1
    memory.drain(slots)
    return tensors, broadcasts


class TorchMemory:
    """Tensors on a GPU, a CUDA stream for each slot; on the CPU without."""

    def __init__(self, device):
        import torch
        self.torch = torch
        self.on_gpu = device >= 0
        self.device = torch.device("cuda", device) if self.on_gpu else torch.device("cpu")
        if self.on_gpu:
            torch.cuda.set_device(self.device)
            torch.empty(1, device=self.device)  # the context is there

    def slots(self, count):
        return [self.torch.cuda.Stream() if self.on_gpu else None for _ in range(count)]

    @contextlib.contextmanager
    def turn(self, slot):
        if slot is None:
            yield
            return
        slot.synchronize()
        with self.torch.cuda.stream(slot):
            yield

    def drain(self, slots):
        for slot in slots:
            if slot is not None:
                slot.synchronize()

    def flat(self, tensor):
        # First one dimension: a scalar has none to be seen as bytes along.
        return tensor.contiguous().view(-1).view(self.torch.uint8)

    def cat(self, parts):
        return self.torch.cat(parts, dim=0)

    def empty(self, count):
        return self.torch.empty(count, dtype=self.torch.uint8, device=self.device)

    def split(self, packed, sizes):
        return packed.split(sizes)

    def tensor(self, part, row):
        # A copy: a slice behind an odd-sized tensor is not aligned for its type.
        return part.clone().view(getattr(self.torch, DTYPES[row.dtype][1])).view(row.shape)

    def load(self, data, row):
        """A tensor with these bytes."""
        part = self.empty(row.bytes)
        if row.bytes > 0:
            part.copy_(self.torch.frombuffer(data, dtype=self.torch.uint8))
        tensor = self.tensor(part, row)
        if "strided" not in row.name:
            return tensor
        if tensor.dim() >= 2:
            spread = tensor.transpose(0, -1).contiguous().transpose(0, -1)
        else:
            spread = self.torch.zeros(2 * tensor.numel(), dtype=tensor.dtype, device=self.device)
            spread = spread[::2]
            spread.copy_(tensor)
        assert not spread.is_contiguous(), row.name
        # As bytes: what is no number equals nothing.
        assert self.torch.equal(self.flat(spread), self.flat(tensor)), row.name
        return spread

    def dump(self, tensor):
        return self.flat(tensor).cpu().numpy().tobytes()

    def settle(self):
        if self.on_gpu:
            self.torch.cuda.synchronize()


class PlainMemory:
    """Tensors are bytes: for tests of everything but torch."""

    slots = staticmethod(lambda count: [None] * count)
    turn = staticmethod(contextlib.nullcontext)
    drain = staticmethod(lambda slots: None)
    flat = staticmethod(lambda tensor: tensor)
    cat = staticmethod(b"".join)
    empty = staticmethod(bytearray)
    tensor = staticmethod(lambda part, row: bytes(part))
    load = staticmethod(lambda data, row: bytes(data))
    dump = staticmethod(bytes)
    settle = staticmethod(lambda: None)

    @staticmethod
    def split(packed, sizes):
        view, at = memoryview(packed), 0
        for size in sizes:
            yield view[at:at + size]
            at += size


class UniqueId(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_ubyte * 128)]


class NcclWire:
    """A communicator of libnccl, used on the current stream of torch."""

    UINT8, FLOAT32, SUM = 1, 7, 0  # of nccl.h

    def __init__(self, library, rank, size, vllm):
        import torch
        self.torch, self.rank, self.size, self.vllm = torch, rank, size, vllm
        self.nccl = ctypes.CDLL(library)
        pointer, number = ctypes.c_void_p, ctypes.c_int
        self.nccl.ncclGetErrorString.restype = ctypes.c_char_p
        self.nccl.ncclGetErrorString.argtypes = [number]
        self.nccl.ncclGetUniqueId.argtypes = [ctypes.POINTER(UniqueId)]
        self.nccl.ncclCommInitRank.argtypes = [ctypes.POINTER(pointer), number, UniqueId, number]
        self.nccl.ncclBroadcast.argtypes = [pointer, pointer, ctypes.c_size_t, number, number,
                                            pointer, pointer]
        self.nccl.ncclAllReduce.argtypes = self.nccl.ncclBroadcast.argtypes
        self.nccl.ncclCommAbort.argtypes = [pointer]
        self.comm = pointer()

    def check(self, result, what):
        if result != 0:
            raise RuntimeError("%s: NCCL says %s" % (
                what, self.nccl.ncclGetErrorString(result).decode()))

    def stream(self):
        return ctypes.c_void_p(self.torch.cuda.current_stream().cuda_stream)

    def make_id(self):
        made = UniqueId()
        self.check(self.nccl.ncclGetUniqueId(ctypes.byref(made)), "making a unique ID")
        return bytes(made)

    def join(self, unique_id):
        self.check(self.nccl.ncclCommInitRank(ctypes.byref(self.comm), self.size,
                                              UniqueId.from_buffer_copy(unique_id), self.rank),
                   "connecting")
        if self.vllm:  # what PyNcclCommunicator does first
            one = self.torch.zeros(1, device="cuda")
            data = ctypes.c_void_p(one.data_ptr())
            self.check(self.nccl.ncclAllReduce(data, data, 1, self.FLOAT32, self.SUM, self.comm,
                                               self.stream()), "warming up")
            self.torch.cuda.current_stream().synchronize()

    def broadcast(self, packed):
        data = ctypes.c_void_p(packed.data_ptr())
        self.check(self.nccl.ncclBroadcast(data, data, packed.numel(), self.UINT8, 0, self.comm,
                                           self.stream()), "broadcasting")

    def close(self):
        self.torch.cuda.synchronize()
        if self.comm:
            self.check(self.nccl.ncclCommAbort(self.comm), "closing")


class SocketWire:
    """A connected socket in place of NCCL: an operation's size, 8 bytes, and its bytes."""

    def __init__(self, descriptor, rank):
        self.socket, self.is_root = socket.socket(fileno=descriptor), rank == 0

    def make_id(self):
        return bytes(128)

    def join(self, unique_id):
        assert len(unique_id) == 128

    def broadcast(self, packed):
        if not isinstance(packed, (bytes, bytearray)):  # a tensor of the CPU
            packed = memoryview(packed.numpy())
        if len(packed) == 0:
            return  # NCCL has nothing to do either
        if self.is_root:
            self.socket.sendall(struct.pack("<Q", len(packed)))
            self.socket.sendall(packed)
            return
        header = bytearray(8)
        self.receive(memoryview(header))
        sent, = struct.unpack("<Q", header)
        if sent != len(packed):
            raise RuntimeError("a broadcast has %d bytes at the root, %d here" % (
                sent, len(packed)))
        self.receive(memoryview(packed))

    def receive(self, view):
        while view:
            part = self.socket.recv_into(view)
            if part == 0:
                raise RuntimeError("the other rank is gone")
            view = view[part:]

    def close(self):
        self.socket.close()


def send(memory, wire, words):
    rows = load_rows(words[1])
    with open(words[2], "rb") as file:
        data = memoryview(bytearray(file.read()))
    tensors, at = [], 0
    for row in rows:
        tensors.append(memory.load(data[at:at + row.bytes], row))
        at += row.bytes
    assert at == len(data), "the list has %d bytes, %s has %d" % (at, words[2], len(data))
    memory.settle()
    begin = time.monotonic()
    broadcasts = produce(rows, tensors, memory, wire, *map(int, words[3:]))
    return "sent %d %.6f" % (broadcasts, time.monotonic() - begin)


def take(memory, wire, words):
    rows = load_rows(words[1])
    memory.settle()
    begin = time.monotonic()
    tensors, broadcasts = consume(rows, memory, wire, *map(int, words[3:]))
    seconds = time.monotonic() - begin
    with open(words[2], "wb") as file:
        for row, tensor in zip(rows, tensors):
            data = memory.dump(tensor)
            assert len(data) == row.bytes, row.name
            file.write(data)
    return "took %d %.6f" % (broadcasts, seconds)


def serve(memory, wire):
    answer("ready")
    for line in iter(sys.stdin.readline, ""):
        words = line.split()
        if words == ["end"]:
            wire.close()
            return
        if words == ["id"]:
            answer("id " + wire.make_id().hex())
        elif words[:1] == ["join"]:
            wire.join(bytes.fromhex(words[1]))
            answer("joined")
        elif words[:1] == ["send"]:
            answer(send(memory, wire, words))
        elif words[:1] == ["take"]:
            answer(take(memory, wire, words))
        elif words:
            raise RuntimeError("unknown command " + words[0])


def answer(line):
    print(line, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rank", type=int, default=1, help="0 is the root")
    parser.add_argument("--size", type=int, default=2, help="ranks in all")
    parser.add_argument("--device", type=int, default=0, help="of CUDA; -1: the CPU")
    parser.add_argument("--library", default="libnccl.so.2", help="the same as the others'")
    parser.add_argument("--vllm", action="store_true", help="begin with an all-reduce, as vLLM")
    parser.add_argument("--socket", type=int, help="a descriptor to use in place of NCCL")
    parser.add_argument("--plain", action="store_true", help="no torch: tensors are bytes")
    parser.add_argument("--life", type=float, default=300, help="seconds until it ends anyway")
    flags = parser.parse_args()
    # NCCL's own calls wait without an end.
    faulthandler.dump_traceback_later(flags.life, exit=True)
    try:
        memory = PlainMemory() if flags.plain else TorchMemory(flags.device)
        if flags.socket is not None:
            wire = SocketWire(flags.socket, flags.rank)
        else:
            wire = NcclWire(flags.library, flags.rank, flags.size, flags.vllm)
        serve(memory, wire)
    except Exception as error:  # whatever it is, the other side of the pipe is told
        answer("error %s: %s" % (type(error).__name__, str(error).replace("\n", " ")))
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # CUDA may be stuck, and would wait in its own clean-up


if __name__ == "__main__":
    main()
