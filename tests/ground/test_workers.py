"""The ordered pool: answers in order, errors that come through, a few items ahead, and processes that always end."""
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from loader_cases import alive
from paths import ROOT

from paddlevideo_skel.errors import DataError
from paddlevideo_skel.workers import OrderedPool, sigterm_blocked


def inverse(number):
    return 1 / number


def add(one, other):
    return one + other


def lethal(number):
    os.kill(os.getpid(), signal.SIGKILL)


def pool(function, num_workers):
    return OrderedPool(function, num_workers, "counting", "Count less")


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_answers_in_order(num_workers):
    with pool(add, num_workers) as workers:
        assert list(workers.map(range(20), itertools.repeat(5))) == list(range(5, 25))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_error_comes_through_and_the_pool_lives(num_workers):
    with pool(inverse, num_workers) as workers:
        found = []
        with pytest.raises(ZeroDivisionError):
            for answer in workers.map([1, 2, 0, 4, 5, 6, 7, 8]):
                found.append(answer)
        assert found == [1, 0.5]
        assert list(workers.map([4, 8])) == [0.25, 0.125]


def test_a_killed_worker_is_a_clear_error():
    with pool(lethal, 2) as workers:
        with pytest.raises(DataError, match=r"^counting: a worker process was killed.*Count less"):
            list(workers.map(range(4)))
        workers.function = inverse
        assert list(workers.map([1, 2])) == [1, 0.5]


def test_only_a_few_items_are_under_way():
    taken = []
    with pool(inverse, 2) as workers:
        answers = workers.map(taken.append(i) or i for i in itertools.count(1))
        assert [next(answers) for _ in range(3)] == [1, 1 / 2, 1 / 3]
        assert len(taken) <= 3 + 2 * 2
        answers.close()


def mask_at_start(queue):
    queue.put(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def sigterm_state(number):
    return signal.pthread_sigmask(signal.SIG_BLOCK, ()), signal.getsignal(signal.SIGTERM)


def test_a_worker_ignores_sigterm_while_it_is_forked_and_takes_it_afterwards():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    with sigterm_blocked():
        child = context.Process(target=mask_at_start, args=(queue,))
        child.start()
    assert signal.SIGTERM in queue.get()
    child.join()
    with pool(sigterm_state, 1) as workers:
        (mask, handler), = workers.map([0])
        assert signal.SIGTERM not in mask and handler == signal.SIG_DFL
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


ENDINGS = {
    "end of the program": "next(answers)",
    "an exception": "next(answers); raise ValueError('mine')",
    "ctrl-c": "next(answers); import os, signal; os.kill(os.getpid(), signal.SIGINT); time.sleep(5)",
    "sys.exit": "next(answers); sys.exit(3)",
    "killed": "next(answers); import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "terminated": "next(answers); import os, signal; os.kill(os.getpid(), signal.SIGTERM); time.sleep(5)",
}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see what is left")
@pytest.mark.parametrize("ending", ENDINGS)
def test_no_process_is_left_however_the_program_ends(ending):
    script = ("import sys, time; sys.path[:0] = ['tests/helpers', '.']\n"
              "from paddlevideo_skel.workers import OrderedPool\n"
              "pool = OrderedPool(str, 2, 'counting', '')\n"
              f"answers = pool.map(range(10**9))\n{ENDINGS[ending]}\n")
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, start_new_session=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        process.wait(timeout=120)
        assert (process.returncode == 0) == (ending == "end of the program")
        deadline = time.monotonic() + 8
        while alive(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not alive(process.pid)
