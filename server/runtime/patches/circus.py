"""Changes made to circus (kantoku 0.18.3), with their reasons; tests/server/test_patches.py fails when one is not needed."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable
from typing import Any, NamedTuple

RETRY_SECONDS = 0.02  # between attempts to stop while circus is busy


def limit_stop(seconds: float) -> None:
    """Kill a worker that has not ended some seconds after it was told to: in the process that starts the workers.

    BentoML gives each of them a day, so that one that hangs (or is stopped by SIGSTOP) keeps the service from ending.
    For kantoku 0.18.3; upstream: an option of its own, which BentoML sets to 86400.
    """
    from circus.watcher import Watcher

    make = Watcher.__init__

    def init(self: Any, *arguments: Any, **options: Any) -> None:
        make(self, *arguments, **options | {"graceful_timeout": seconds})

    Watcher.__init__ = init


def stop_on_hangup() -> None:
    """End on SIGHUP, which a terminal sends that closes, as on SIGTERM; unless it was ignored before, as nohup has it.

    circus takes it as a wish to start all workers again.
    For kantoku 0.18.3; upstream: as circus means it, no issue filed.
    """
    from circus.sighandler import SysHandler

    def handle_hup(self: Any) -> None:
        if self._old.get(signal.SIGHUP) is not signal.SIG_IGN:
            self.handle_term()

    SysHandler.handle_hup = handle_hup


def keep_stop_signals() -> None:
    """Stop also on a signal that arrives while circus starts or checks the workers.

    circus runs one command at a time, and drops the one to quit where another is running.
    For kantoku 0.18.3; upstream: no issue filed.
    """
    from circus.sighandler import SysHandler

    original = SysHandler.quit

    def quit_when_free(self: Any) -> None:
        self.controller.loop.add_callback_from_signal(try_to_quit, self)

    def try_to_quit(self: Any) -> None:
        arbiter = self.controller.arbiter
        if arbiter._exclusive_running_command is None and not arbiter._restarting:
            original(self)
        elif not arbiter._stopping:
            self.controller.loop.call_later(RETRY_SECONDS, try_to_quit, self)

    SysHandler.quit = quit_when_free


class Death(NamedTuple):
    """A worker that has ended by itself: ``code`` is its exit code, or the negative number of the signal that ended it.

    ``others`` is how many workers of its service still run, ``sockets`` those that they listen on.
    """

    service: str
    pid: int
    code: int
    others: int
    sockets: list[socket.socket]


def call_on_death(on_death: Callable[[Death], float]) -> None:
    """Call ``on_death`` when a worker has ended by itself, and wait as many seconds as it says before another is started.

    circus says nothing of a death, and starts the next one at once, for as long as it takes; a service without any worker
    ends all of them.
    For kantoku 0.18.3; upstream: its flapping plugin needs circusd, no issue filed.
    """
    from circus.process import DEAD_OR_ZOMBIE, UNEXISTING
    from circus.watcher import Watcher
    from tornado import gen

    notify, spawn, manage = Watcher.notify_event, Watcher.spawn_processes, Watcher.manage_processes

    def notify_event(self: Any, topic: str, message: dict[str, Any]) -> None:
        if topic == "reap" and not self.is_stopping() and not self.is_stopped():
            service = self.args[self.args.index("--service-name") + 1]
            sockets = [one for one in self.sockets.values() if one.family != socket.AF_UNIX]
            death = Death(service, message["process_pid"], message["exit_code"] or 0, len(self.processes), sockets)
            self.not_before = time.monotonic() + on_death(death)
        notify(self, topic, message)

    def spawn_processes(self: Any) -> Any:
        if time.monotonic() < getattr(self, "not_before", 0.0):
            self.waits = True
            return gen.maybe_future(None)
        self.waits = False
        return spawn(self)

    def manage_processes(self: Any) -> Any:
        if self.is_active():  # circus forgets those that it finds dead before it was told of their end
            for process in [one for one in self.processes.values() if one.status in (DEAD_OR_ZOMBIE, UNEXISTING)]:
                self.reap_process(process.pid)
        return manage(self)

    def count(self: Any) -> int:
        return len(self.processes) or int(getattr(self, "waits", False))

    Watcher.notify_event, Watcher.spawn_processes = notify_event, spawn_processes
    Watcher.manage_processes, Watcher.__len__ = manage_processes, count


def adopt_workers(script: str, take: Callable[[list[str], str, dict[str, str]], Any]) -> None:
    """Take what ``take(arguments, cwd, environment)`` gives for a worker that runs ``script``, where it gives one.

    circus starts another interpreter for each.
    For kantoku 0.18.3; upstream: as circus means it, no issue filed.
    """
    from circus import process

    start = process.Popen

    def take_or_start(command: list[str], **options: Any) -> Any:
        taken = take(command[3:], options["cwd"], options["env"]) if command[1:3] == ["-m", script] else None
        return taken or start(command, **options)

    process.Popen = take_or_start
