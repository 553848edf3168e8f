#!/usr/bin/env python3
"""How fast today's Python stacks move a model's weights from GPU 0 to GPU 1.

The packed broadcast of vLLM (tests/gpu/compat_peer.py), 1 GiB x 2 buffers, with raw ncclBroadcast
in 1 GiB pieces in the same run. Two processes; one line a list.

  rival_bench.py [--library libnccl.so.2] [--repeats N] LIST.json...

LIST is as the benchmarks of packcast take it: {"model": ..., "tensors": [[name, dtype, shape]...]}.
"""

import argparse
import json
import math
import os
import sys
import time

import torch
import torch.multiprocessing as multiprocessing

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, "..", "gpu"))
import compat_peer  # noqa: E402

PIECE = 1 << 30


def torch_dtype(row):
    return getattr(torch, compat_peer.DTYPES[row.dtype][1])


def timed(run, barrier, repeats):
    """The median of the seconds of `repeats` rounds, after one more."""
    seconds = []
    for _ in range(repeats + 1):
        torch.cuda.synchronize()
        barrier.wait()
        begin = time.perf_counter()
        run()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return sorted(seconds[1:])[repeats // 2]


def measure(rank, wire, barrier, path, repeats):
    with open(path) as file:
        shapes = json.load(file)
    rows = [compat_peer.Row(*row) for row in shapes["tensors"]]
    total = sum(row.bytes for row in rows)
    memory = compat_peer.TorchMemory(rank)
    piece = torch.empty(PIECE, dtype=torch.uint8, device="cuda")
    pieces = math.ceil(total / PIECE)
    raw = pieces * PIECE / timed(
        lambda: [wire.broadcast(piece) for _ in range(pieces)], barrier, repeats)
    del piece
    params = {row.name: torch.empty(row.shape, dtype=torch_dtype(row), device="cuda")
              for row in rows}

    def load(row, part):
        params[row.name].copy_(part.view(torch_dtype(row)).view(row.shape))

    def sync():
        if rank == 0:
            compat_peer.produce(rows, list(params.values()), memory, wire)
        else:
            compat_peer.consume(rows, memory, wire, load=load)

    rate = total / timed(sync, barrier, repeats)
    if rank == 1:
        print("%-18s %6d tensors %7.2f GB: raw %6.1f GB/s, packed broadcast of Python stacks "
              "%6.1f GB/s (%.3f of raw), %.2f ms" % (
                  shapes["model"], len(rows), total / 1e9, raw / 1e9, rate / 1e9, rate / raw,
                  1e3 * total / rate), flush=True)


def rank_main(rank, ids, barrier, flags):
    torch.cuda.set_device(rank)
    wire = compat_peer.NcclWire(flags.library, rank, 2, vllm=False)
    if rank == 0:
        ids.put(wire.make_id())
        unique_id = ids.get()
    else:
        unique_id = ids.get()
        ids.put(unique_id)
    wire.join(unique_id)
    for path in flags.lists:
        measure(rank, wire, barrier, path, flags.repeats)
    wire.close()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", default="libnccl.so.2")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("lists", nargs="+")
    flags = parser.parse_args()
    multiprocessing.set_start_method("spawn")
    ids, barrier = multiprocessing.Queue(), multiprocessing.Barrier(2)
    ranks = [multiprocessing.Process(target=rank_main, args=(rank, ids, barrier, flags))
             for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    sys.exit(max(abs(rank.exitcode) for rank in ranks))


if __name__ == "__main__":
    main()
