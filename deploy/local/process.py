"""One process of the system: started, watched, started again when it dies, stopped.

Each process has a thread of its own, which lives as long as the process may: on Linux the kernel ends a child
when the *thread* that started it ends, so a runner killed with -9 leaves nothing behind.
"""

import contextlib
import ctypes
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.errors import CannotStart, explain, known_cause, last_words

HEALTHY_AFTER_S = 5.0
"""A process that was ready this long has proven itself: its next death is answered at once
(CONTRACT "The runner")."""
BACKOFF_FIRST_S, BACKOFF_MOST_S = 0.1, 5.0
POLL_S = 0.03
REFUSES = 3
"""The exit code of a service whose database and topics do not belong together (`chassis.recovery`): one must act."""
_LOOK_BACK_BYTES = 64 * 1024

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _nothing(*_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Program:
    """What to run and how to tell that it works.

    `environment`: what differs from the runner's own (None: not there). `command` is asked anew at each
    start; `after_exit` gets the exit code; `answers` returns True once the program serves (OSError means not
    yet). `parent_death`: the signal the kernel sends when the runner dies (None: the command sees to that
    itself). `hopeless_after_s`: a process that has not answered by then is killed, and started again.
    """

    name: str
    command: Callable[[], Sequence[str]]
    answers: Callable[[], bool]
    log: Path
    environment: Mapping[str, str | None] = field(default_factory=dict)
    before_start: Callable[[], None] = _nothing
    after_exit: Callable[[int], None] = _nothing
    stop_signal: signal.Signals = signal.SIGTERM
    parent_death: signal.Signals | None = signal.SIGKILL
    patience_s: float = 60.0
    hopeless_after_s: float = math.inf
    stop_patience_s: float = 10.0


class Supervised:
    """A program kept running. `changed` is called from its thread at every start and when it becomes
    ready."""

    def __init__(self, program: Program, changed: Callable[["Supervised"], None] = lambda _: None) -> None:
        self.program = program
        self.restarts = -1
        self.exit_code: int | None = None
        self.ended_because: str | None = None
        """Why the last process ended, where its log shows something that a person can do something about."""
        self._changed = changed
        self._log_from = 0  # what stands before in the log is of former runs
        self._life_from = 0  # and before this, of former lives in this one
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = threading.Event()
        self._stopping = threading.Event()
        self._failure: CannotStart | None = None
        self._thread = threading.Thread(target=self._keep_running, name=program.name, daemon=True)

    @property
    def pid(self) -> int | None:
        """The process that does the work, None while there is none."""
        return self._process.pid if self._process and self._process.returncode is None else None

    @property
    def ready(self) -> bool:
        """Whether the present process has answered."""
        return self._ready.is_set()

    def start(self) -> None:
        """Start it; returns at once."""
        self._log_from = _size(self.program.log)
        self._thread.start()

    def wait_ready(self) -> None:
        """Block until it answers. Raises CannotStart, with its last words, when it does not within
        `patience_s`."""
        deadline = time.monotonic() + self.program.patience_s
        while not self._ready.wait(0.05):
            if self._failure:
                raise self._failure
            if self._stopping.is_set():
                raise CannotStart(f"{self.program.name} was stopped before it was ready.")
            if self.restarts >= 4 or time.monotonic() > deadline:
                raise CannotStart(f"{self.program.name} does not start: {self._last_words()}")

    def stop(self) -> None:
        """Ask it to stop; after `stop_patience_s` it is killed. Returns when it is gone."""
        self._stopping.set()
        if not self._thread.is_alive():
            return
        self._signal(self.program.stop_signal)
        self._signal(signal.SIGCONT)  # a frozen process hears nothing
        self._thread.join(self.program.stop_patience_s)
        if self._thread.is_alive():
            self._signal(signal.SIGKILL)
            self._thread.join()

    def _keep_running(self) -> None:
        delay_s = 0.0
        while not self._stopping.is_set():
            ready_at = self._run_once()
            self._ready.clear()
            if ready_at is not None and time.monotonic() - ready_at >= HEALTHY_AFTER_S:
                delay_s = 0.0
            self._stopping.wait(delay_s)
            delay_s = min(BACKOFF_MOST_S, max(BACKOFF_FIRST_S, 2 * delay_s))

    def _run_once(self) -> float | None:
        """One life of the process; returns when it became ready (monotonic seconds), None if it never did."""
        try:
            self.program.before_start()
            self._process = process = self._spawn()
        except Exception as error:  # the thread must live on, whatever it was
            self._failure = _as_sentence(error, self.program.name)
            return None
        if self._stopping.is_set():  # stop() may have looked before there was a process
            self._signal(self.program.stop_signal)
        self.restarts += 1
        self._tell_of_change()
        ready_at, begun = None, time.monotonic()
        while process.poll() is None and not self._stopping.is_set():
            with contextlib.suppress(OSError):
                if self.program.answers() and process.poll() is None:
                    ready_at = time.monotonic()
                    self._failure = None
                    self._ready.set()
                    self._tell_of_change()
                    break
            if time.monotonic() - begun > self.program.hopeless_after_s:
                self._signal(signal.SIGKILL)
            time.sleep(POLL_S)
        self.exit_code = process.wait()
        if self.exit_code == REFUSES:
            self._failure = CannotStart(f"{self.program.name} refuses to start: {self._last_words()}")
        # What was killed has not ended of what it complained about before.
        self.ended_because = known_cause(self._said_since(self._life_from)) if self.exit_code > 0 else None
        self.program.after_exit(self.exit_code)
        return ready_at

    def _tell_of_change(self) -> None:
        # Where nothing can be said or written (the disk is full), the process must be looked after all the same.
        with contextlib.suppress(OSError):
            self._changed(self)

    def _spawn(self) -> subprocess.Popen[bytes]:
        dying = self.program.parent_death
        self._life_from = _size(self.program.log)

        def die_with_the_runner() -> None:
            if _LIBC is not None and dying is not None:
                _LIBC.prctl(_PR_SET_PDEATHSIG, dying)

        with self.program.log.open("ab") as log:
            return subprocess.Popen(
                list(self.program.command()),
                env=with_environment(self.program.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the runner, which stops the rest in order
                preexec_fn=die_with_the_runner,
            )

    def _signal(self, number: signal.Signals) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    def _last_words(self) -> str:
        return f"{last_words(self._said_since(self._log_from))} (the whole story is in {self.program.log})."

    def _said_since(self, place: int) -> str:
        with contextlib.suppress(FileNotFoundError), self.program.log.open("rb") as log:
            log.seek(max(place, _size(self.program.log) - _LOOK_BACK_BYTES))
            return log.read().decode(errors="replace")
        return ""


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def _as_sentence(error: Exception, name: str) -> CannotStart:
    if isinstance(error, CannotStart):
        return error
    if isinstance(error, OSError):
        return explain(error, f"starting {name}")
    return CannotStart(f"{name} does not start: {type(error).__name__}: {error}.")


def with_environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    """The runner's environment with `changes`; None takes a variable away."""
    return {name: value for name, value in {**os.environ, **changes}.items() if value is not None}
