"""What could not be served in time is refused before any work is done, and nothing is let in for long on a wrong guess."""

from __future__ import annotations

import pytest

from server.api.errors import RequestError
from server.gateway import Admission, BodyBudget
from server.gateway.admission import UNMEASURED
from server.telemetry.metrics import REQUEST_BODY_BYTES, RequestContext, begin


class Clock:
    """Time that goes on when it is told to."""

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


def measured(clock: Clock, rate: float) -> Admission:
    """One that has seen work done at a rate."""
    admission = Admission(1.0, "pictures")
    for _ in range(3 * UNMEASURED):
        admission.enter(1)
        clock.now += 1 / rate
        admission.leave(1, 1)
    return admission


def test_as_much_is_let_in_as_can_be_done_in_time(clock: Clock) -> None:
    admission = measured(clock, 50)
    admission.enter(50)
    admission.enter(1)  # 50 are ahead: just a second
    with pytest.raises(RequestError) as raised:
        admission.enter(1)
    assert (raised.value.kind.code, raised.value.retry_after) == ("busy", 2)
    admission.leave(10, 10)
    admission.enter(1)


def test_a_large_request_is_let_in_when_little_is_ahead(clock: Clock) -> None:
    admission = measured(clock, 50)
    admission.enter(64)
    with pytest.raises(RequestError):
        admission.enter(1)


def test_idle_time_says_nothing_of_the_rate(clock: Clock) -> None:
    admission = measured(clock, 50)
    clock.now += 3600
    admission.enter(50)
    assert admission.wait == pytest.approx(1)


def test_work_that_stalls_is_noticed(clock: Clock) -> None:
    admission = measured(clock, 50)
    admission.enter(10)
    assert admission.wait < 0.3
    clock.now += 20
    with pytest.raises(RequestError):
        admission.enter(1)


def test_what_turns_out_to_be_no_work_raises_no_hopes(clock: Clock) -> None:
    admission = measured(clock, 50)
    for _ in range(1000):
        admission.enter(5)
        clock.now += 0.001
        admission.leave(5, 0)
    admission.enter(60)
    with pytest.raises(RequestError):
        admission.enter(1)


def test_before_anything_is_known_a_bounded_number_is_let_in(clock: Clock) -> None:
    admission = Admission(1.0, "pictures")
    for _ in range(UNMEASURED):
        admission.enter(1)
    with pytest.raises(RequestError):
        admission.enter(1)
    admission.leave(UNMEASURED, 0)
    admission.start_anew()
    admission.enter(1)


def test_bytes_are_held_up_to_a_limit_and_a_request_alone_is_never_refused() -> None:
    begin(RequestContext())
    held = BodyBudget(1000, REQUEST_BODY_BYTES)
    held.add(600, 900)
    with pytest.raises(RequestError):
        held.add(1, 500)
    held.add(400)
    with pytest.raises(RequestError):
        held.add(1)
    held.free()
    held.add(5000)
    held.free()
    held.add(1)
