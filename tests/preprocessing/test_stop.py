"""Ctrl-C and SIGTERM end a preparation with one sentence, and leave signals as they were."""

import signal
import threading

import pytest

from uvlm.preprocessing.stop import StoppedError, sigterm_interrupts, stoppable


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_error_says_how_to_go_on(tmp_path, number):
    before = signal.getsignal(signal.SIGTERM)
    with (
        pytest.raises(StoppedError, match="run the same command again") as stop,
        stoppable(tmp_path),
    ):
        signal.raise_signal(number)
    assert str(tmp_path) in str(stop.value)
    assert stop.value.exit_code == 130
    assert signal.getsignal(signal.SIGTERM) == before


def test_other_errors_pass_and_signals_are_as_before(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyError), stoppable(tmp_path):
        raise KeyError
    assert signal.getsignal(signal.SIGTERM) == before


def test_in_another_thread_signals_stay_as_they_are():
    seen = []

    def work():
        with sigterm_interrupts():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
