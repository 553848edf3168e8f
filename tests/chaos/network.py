"""A network of the storm's own: a namespace for each process, joined by a bridge."""

import ctypes
import os
import re
import shutil
import subprocess
from typing import Dict, List, Optional

_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000
_MTU = "65535"
_TOOLS = ("ip", "tc", "ss", "nsenter", "mount")


def _run(*command: str, check: bool = True, text: Optional[str] = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, input=text)
    if check and done.returncode != 0:
        raise OSError("%s: %s" % (" ".join(command), done.stderr.strip()))
    return done.stdout


class Network:
    """Puts this process, while it has one thread, and its children into namespaces of their own.
    They go with the last process in them."""

    def __init__(self) -> None:
        """Raises OSError when namespaces are not permitted here."""
        missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
        if missing:
            raise OSError("no %s (packages iproute2 and util-linux)" % ", ".join(missing))
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNS | _CLONE_NEWNET) != 0:
            raise OSError("unshare: " + os.strerror(ctypes.get_errno()))
        _run("mount", "--make-rprivate", "/")
        os.makedirs("/run/netns", exist_ok=True)
        _run("mount", "-t", "tmpfs", "none", "/run/netns")
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", "hub", "mtu", _MTU, "type", "bridge")
        _run("ip", "link", "set", "hub", "up")
        self._numbers: Dict[str, int] = {}
        self._door = ""
        self.has_netem = self._probe_netem()

    @staticmethod
    def _probe_netem() -> bool:
        probe = subprocess.run(
            ["tc", "qdisc", "add", "dev", "hub", "root", "netem", "delay", "1ms"],
            capture_output=True, check=False)
        _run("tc", "qdisc", "del", "dev", "hub", "root", check=False)
        return probe.returncode == 0

    def add(self, name: str) -> None:
        """A namespace for the process of that name, unless there is one."""
        if name in self._numbers:
            return
        number = self._numbers.setdefault(name, len(self._numbers) + 1)
        _run("ip", "netns", "add", name)
        _run("ip", "link", "add", self._port(name), "mtu", _MTU, "type", "veth",
             "peer", "name", "eth0", "netns", name)
        _run("ip", "link", "set", self._port(name), "master", "hub", "up")
        _run("ip", "-n", name, "-batch", "-", text="""link set lo up
            link set eth0 address 02:00:00:00:00:%02x mtu %s up
            addr add %s/24 dev eth0\n""" % (number, _MTU, self.address(name)))
        # Nobody has to ask for addresses while the network is cut.
        for other, number_there in self._numbers.items():
            for here, there, mac in ((name, other, number_there), (other, name, number)):
                if here != there:
                    _run("ip", "-n", here, "neigh", "replace", self.address(there), "lladdr",
                         "02:00:00:00:00:%02x" % mac, "dev", "eth0", "nud", "permanent")

    def add_side_door(self, name: str) -> str:
        """A second way from here to that process, which no fault touches. Its address there."""
        if self._door == name:
            return "10.78.0.1"
        self._door = name
        _run("ip", "link", "add", "door", "type", "veth", "peer", "name", "eth1", "netns", name)
        _run("ip", "link", "set", "door", "up")
        _run("ip", "addr", "add", "10.78.0.2/24", "dev", "door")
        _run("ip", "-n", name, "-batch", "-",
             text="link set eth1 up\naddr add 10.78.0.1/24 dev eth1\n")
        return "10.78.0.1"

    def address(self, name: str) -> str:
        return "10.77.0.%d" % self._numbers[name]

    def prefix(self, name: str) -> List[str]:
        """What to put before a command to have it in that namespace, under its own process id."""
        return ["nsenter", "--net=/run/netns/" + name]

    def _port(self, name: str) -> str:
        return "p%d" % self._numbers[name]

    def _ends(self, name: str, inbound: bool, outbound: bool) -> List[List[str]]:
        """tc commands' beginnings and devices, for what goes to and comes from the process."""
        ends = []
        if inbound:
            ends.append(["tc", "qdisc", "replace", "dev", self._port(name)])
        if outbound:
            ends.append(["tc", "-n", name, "qdisc", "replace", "dev", "eth0"])
        return ends

    def cut(self, name: str, inbound: bool = True, outbound: bool = True) -> None:
        """What is sent to it or by it vanishes, without a word to anyone."""
        for end in self._ends(name, inbound, outbound):
            _run(*end, "root", "blackhole")

    def cut_between(self, name: str, peer: str) -> None:
        """What it sends to `peer`, or gets from there, vanishes."""
        for end, field in zip(self._ends(name, True, True), ("src", "dst")):
            tc = end[:end.index("qdisc")]
            device = end[-1]
            _run(*end, "root", "handle", "1:", "htb", "default", "1")
            for number in ("1", "2"):
                _run(*tc, "class", "add", "dev", device, "parent", "1:", "classid", "1:" + number,
                     "htb", "rate", "100gbit", "quantum", "200000")
            _run(*tc, "qdisc", "add", "dev", device, "parent", "1:2", "blackhole")
            _run(*tc, "filter", "add", "dev", device, "parent", "1:", "protocol", "ip", "u32",
                 "match", "ip", field, self.address(peer) + "/32", "flowid", "1:2")

    def narrow(self, name: str, megabits: int, queue_bytes: int) -> None:
        """A slow way: with a long queue all that is small waits behind all that is large, with a
        short one much is lost."""
        for end in self._ends(name, True, True):
            _run(*end, "root", "tbf", "rate", "%dmbit" % megabits, "burst", "70000",
                 "limit", str(queue_bytes))

    def netem(self, name: str, *what: str) -> None:
        """Needs a kernel with netem."""
        for end in self._ends(name, True, True):
            _run(*end, "root", "netem", "limit", "20000", *what)

    def heal(self, name: str) -> None:
        _run("tc", "qdisc", "del", "dev", self._port(name), "root", check=False)
        _run("tc", "-n", name, "qdisc", "del", "dev", "eth0", "root", check=False)

    def close_connections(self, name: str) -> int:
        """Ends the process's connections in its kernel. How many."""
        said = _run(*self.prefix(name), "ss", "-H", "-K", "-t", "state", "established", "src",
                    self.address(name), check=False)
        return len(re.findall(r"^\d", said, re.MULTILINE))
