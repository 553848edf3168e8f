"""The role programs started one by one, as a launcher on several hosts would."""

from typing import List, Optional

from tests.integration.cluster import Session
from tests.integration.processes import Process


class Roles:
    """A coordinator, and the members that the test adds."""

    def __init__(self, *flags: str) -> None:
        self._flags = flags
        self.processes: List[Process] = []
        self.session: Optional[Session] = None
        self.start_coordinator("tcp://127.0.0.1:*")

    def _start(self, name: str, *flags: str) -> Process:
        process = Process(name, *flags)
        self.processes.append(process)
        return process

    def start_coordinator(self, endpoint: str) -> None:
        self.coordinator = self._start("coordinator", "--endpoint=" + endpoint, *self._flags)
        try:
            self.endpoint = self.coordinator.wait_line(r"^coordinator at (tcp://\S+)$").group(1)
            self.session = Session(self.endpoint)
        except BaseException:
            self.end()
            raise

    def kill_coordinator(self) -> None:
        self.coordinator.end()
        self.session.close()
        self.session = None

    def trainer(self, *flags: str) -> Process:
        return self._start("trainer", "--coordinator=" + self.endpoint, *flags)

    def worker(self, rank: int, *flags: str) -> Process:
        return self._start("worker", "--coordinator=" + self.endpoint, "--rank=%d" % rank, *flags)

    def end(self) -> None:
        for process in reversed(self.processes):
            process.end()
        if self.session is not None:
            self.session.close()
