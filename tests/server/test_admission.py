"""What could not be served in time is refused before any work is done, and nothing is let in for long on a wrong guess."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from server.api.errors import RequestError
from server.gateway import BodyBudget, QueueAdmission
from server.gateway.admission import UNMEASURED
from server.telemetry import RequestContext, begin_request
from server.telemetry.metrics import REQUEST_BODY_BYTES


class Clock:
    """Time that goes on by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock in the place of the real one."""
    clock = Clock()
    monkeypatch.setattr("server.gateway.admission.time.monotonic", clock)
    return clock


def measured(clock: Clock, rate: float) -> QueueAdmission:
    """One that has seen work done at a rate."""
    admission = QueueAdmission(1.0, "pictures")
    for _ in range(3 * UNMEASURED):
        with admission.admit(1) as admitted:
            clock.now += 1 / rate
            admitted.finished = 1
    return admission


@pytest.fixture
def inside() -> Iterator[ExitStack]:
    """Work that is inside until the test ends."""
    with ExitStack() as stack:
        yield stack


def test_as_much_is_admitted_as_can_be_done_in_time(clock: Clock, inside: ExitStack) -> None:
    admission = measured(clock, 50)
    first = ExitStack()
    first.enter_context(admission.admit(10)).finished = 10
    inside.enter_context(admission.admit(40))
    inside.enter_context(admission.admit(1))  # 50 are ahead: just a second
    with pytest.raises(RequestError) as raised, admission.admit(1):
        pass
    assert (raised.value.kind.code, raised.value.retry_after) == ("busy", 2)
    first.close()
    inside.enter_context(admission.admit(1))


def test_a_large_request_is_admitted_when_little_is_ahead(clock: Clock, inside: ExitStack) -> None:
    admission = measured(clock, 50)
    inside.enter_context(admission.admit(64))
    with pytest.raises(RequestError), admission.admit(1):
        pass


def test_idle_time_says_nothing_of_the_rate(clock: Clock, inside: ExitStack) -> None:
    admission = measured(clock, 50)
    clock.now += 3600
    inside.enter_context(admission.admit(50))
    assert admission.wait == pytest.approx(1)


def test_work_that_stalls_is_noticed(clock: Clock, inside: ExitStack) -> None:
    admission = measured(clock, 50)
    inside.enter_context(admission.admit(10))
    assert admission.wait < 0.3
    clock.now += 20
    with pytest.raises(RequestError), admission.admit(1):
        pass


def test_what_turns_out_to_be_no_work_raises_no_hopes(clock: Clock, inside: ExitStack) -> None:
    admission = measured(clock, 50)
    for _ in range(1000):
        with admission.admit(5):
            clock.now += 0.001
    inside.enter_context(admission.admit(60))
    with pytest.raises(RequestError), admission.admit(1):
        pass


def test_before_anything_is_known_a_bounded_number_is_admitted(clock: Clock) -> None:
    admission = QueueAdmission(1.0, "pictures")
    with ExitStack() as first:
        for _ in range(UNMEASURED):
            first.enter_context(admission.admit(1))
        with pytest.raises(RequestError), admission.admit(1):
            pass
    admission.reset()
    with admission.admit(1):
        pass


def test_work_that_fails_leaves(clock: Clock) -> None:
    admission = QueueAdmission(1.0, "pictures")
    with pytest.raises(RuntimeError), admission.admit(UNMEASURED):
        raise RuntimeError
    assert admission.wait == 0


def test_bytes_are_held_up_to_a_limit_and_a_request_alone_is_never_refused() -> None:
    begin_request(RequestContext())
    budget = BodyBudget(1000, REQUEST_BODY_BYTES)
    budget.add(600, 900)
    with pytest.raises(RequestError):
        budget.add(1, 500)
    budget.add(400)
    with pytest.raises(RequestError):
        budget.add(1)
    budget.release()
    budget.add(5000)
    budget.release()
    budget.add(1)
