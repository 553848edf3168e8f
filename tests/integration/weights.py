"""Small weight files, good and bad, for tests."""

import json
import os
import struct
from typing import Any, Dict, List, Optional, Tuple

Tensors = Dict[str, Tuple[str, List[int], bytes]]  # name: dtype, shape, bytes


def safetensors_bytes(header: Any, data: bytes, length: Optional[int] = None) -> bytes:
    """A file with any header, and any claim about its length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def safetensors(tensors: Tensors) -> bytes:
    header, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape,
                        "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    return safetensors_bytes(header, data)


def write(folder: str, name: str, content: bytes) -> str:
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
        file.write(content)
    return path


def write_shapes(folder: str, rows: List[List[Any]], name: str = "shapes.json") -> str:
    return write(folder, name, json.dumps(rows).encode())


def mebibytes(folder: str, total: int, tensor: int = 4) -> str:
    """A list of shapes of `total` MiB in tensors of `tensor` MiB; less where all is slow."""
    total = max(tensor, total // int(os.environ.get("PACKCAST_MODEL_SHRINK", "1")))
    return write_shapes(folder, [["layer.%d.weight" % k, "BF16", [tensor, 512, 1024]]
                                 for k in range(total // tensor)])
