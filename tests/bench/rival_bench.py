#!/usr/bin/env python3
"""How fast today's Python stacks move a model's weights from GPU 0 to the GPUs after it.

The packed broadcast of vLLM (tests/gpu/compat_peer.py), 1 GiB x 2 buffers, with raw ncclBroadcast
in 1 GiB pieces among the same ranks in the same run, each until all ranks are done. A process a
rank; one line a list.

  rival_bench.py [--library libnccl.so.2] [--ranks N] [--repeats N] LIST.json...

LIST is as the benchmarks of packcast take it: {"model": ..., "tensors": [[name, dtype, shape]...]}.
"""

import argparse
import json
import math
import os
import sys
import time
from multiprocessing import connection

import torch
import torch.multiprocessing as multiprocessing

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, "..", "gpu"))
import compat_peer  # noqa: E402

PIECE = 1 << 30


def torch_dtype(row):
    return getattr(torch, compat_peer.DTYPES[row.dtype][1])


class Star:
    """What the ranks share to begin together and to know when all are done."""

    def __init__(self, ranks, limit):
        self.ranks, self.limit = ranks, limit
        self.barrier = multiprocessing.Barrier(ranks)
        self.ids = multiprocessing.Queue()
        self.times = multiprocessing.Array("d", ranks + 1)  # of each rank's end; the root's begin

    def meet(self):
        self.barrier.wait(self.limit)

    def share_id(self, rank, wire):
        if rank == 0:
            unique_id = wire.make_id()
            for _ in range(1, self.ranks):
                self.ids.put(unique_id)
            return unique_id
        return self.ids.get(timeout=self.limit)

    def timed(self, rank, run, repeats):
        """The median of the seconds of `repeats` rounds, after one more."""
        seconds = []
        for _ in range(repeats + 1):
            torch.cuda.synchronize()
            self.meet()
            # The clock of all processes of a host.
            begin = time.perf_counter()
            run()
            torch.cuda.synchronize()
            self.times[rank] = time.perf_counter()
            if rank == 0:
                self.times[self.ranks] = begin
            self.meet()
            seconds.append(max(self.times[:self.ranks]) - self.times[self.ranks])
        return sorted(seconds[1:])[repeats // 2]


def measure(rank, wire, star, path, repeats):
    with open(path) as file:
        shapes = json.load(file)
    rows = [compat_peer.Row(*row) for row in shapes["tensors"]]
    total = sum(row.bytes for row in rows)
    memory = compat_peer.TorchMemory(rank)
    piece = torch.empty(PIECE, dtype=torch.uint8, device="cuda")
    pieces = math.ceil(total / PIECE)
    raw = pieces * PIECE / star.timed(
        rank, lambda: [wire.broadcast(piece) for _ in range(pieces)], repeats)
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

    rate = total / star.timed(rank, sync, repeats)
    if rank == 1:
        print("%-18s %6d tensors %7.2f GB to %d: raw %6.1f GB/s, packed broadcast of Python "
              "stacks %6.1f GB/s (%.3f of raw), %.2f ms" % (
                  shapes["model"], len(rows), total / 1e9, star.ranks - 1, raw / 1e9, rate / 1e9,
                  rate / raw, 1e3 * total / rate), flush=True)


def rank_main(rank, star, flags):
    torch.cuda.set_device(rank)
    wire = compat_peer.NcclWire(flags.library, rank, flags.ranks, vllm=False)
    wire.join(star.share_id(rank, wire))
    for path in flags.lists:
        measure(rank, wire, star, path, flags.repeats)
    star.meet()  # nobody needs this rank's memory any more
    wire.close()


def wait_for_all(processes, limit):
    """The worst exit code; as soon as one has failed, or late, the others are ended."""
    end = time.monotonic() + limit
    running = list(processes)
    while running and time.monotonic() < end and not any(p.exitcode for p in processes):
        connection.wait([p.sentinel for p in running], end - time.monotonic())
        running = [p for p in running if p.exitcode is None]
    if running:
        print("ranks that had to be ended: %s" % [processes.index(p) for p in running],
              file=sys.stderr)
    for process in running:
        process.kill()
    for process in processes:
        process.join()
    return max(abs(process.exitcode) for process in processes)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", default="libnccl.so.2")
    parser.add_argument("--ranks", type=int, default=2, help="a GPU each; rank 0 is the producer")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--limit", type=float, default=300, help="seconds, for all of it")
    parser.add_argument("lists", nargs="+")
    flags = parser.parse_args()
    multiprocessing.set_start_method("spawn")
    star = Star(flags.ranks, flags.limit)
    # Daemons: they end with this process.
    ranks = [multiprocessing.Process(target=rank_main, args=(rank, star, flags), daemon=True)
             for rank in range(flags.ranks)]
    for rank in ranks:
        rank.start()
    sys.exit(wait_for_all(ranks, flags.limit))


if __name__ == "__main__":
    main()
