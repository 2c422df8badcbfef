"""Jobs of native calls: every call is made, in the order of the phases, and no memory is read afterwards."""

import ctypes
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import handover, native, parallel
from minigrad.assembly import Code, module
from minigrad.handover import Job
from minigrad.native import Call
from minigrad.program.phases import Phase

pytestmark = pytest.mark.skipif(not native.available(), reason="llvmlite is not installed")
ROOT = Path(__file__).resolve().parents[2]


def text_of_step():
    """x[at] = 3 * x[at] + x[read] + number: what has run when shows in the result."""
    code = Code("i64")
    place = code.at("%x", "%at")
    value = code.plus(code.times(code.load(place), 3), code.load(code.at("%x", "%read")))
    code.store(code.plus(value, "%number"), place)
    return module(
        code.define("internal void @step(ptr %x, i64 %at, i64 %read, i64 %number)"), "step", ["ptr"] + ["i64"] * 3
    )


def text_of_rest():
    """Count in x, so that a lane takes a while: as many turns as are asked for."""
    code = Code("i64")
    with code.loop(0, "%turns"):
        value = code.let("load volatile i64, ptr %x, align 8")
        code.run(f"store volatile i64 {code.plus(value, 1)}, ptr %x, align 8")
    return module(code.define("internal void @rest(ptr %x, i64 %turns)"), "rest", ["ptr", "i64"])


STEP, REST = text_of_step(), text_of_rest()


def step(x, at, read, number=0):
    return Call(STEP, (x,), (at, read, number)), ()


def rest(turns):
    return Call(REST, (np.zeros(8, np.int64),), (turns,)), ()


def compute(x, at, read, number=0):
    """What `step` does, in NumPy's integers, which wrap around too."""
    with np.errstate(over="ignore"):
        x[at] = x[at] * 3 + x[read] + number


# Order


def relay(lanes, phases, x, width=8):
    """In each phase each lane writes its own element, from what its neighbour wrote in the phase before."""
    at = [[(p % 2 * lanes + lane) * width for lane in range(lanes)] for p in range(2)]
    return [
        [[step(x, at[p % 2][lane], at[(p + 1) % 2][(lane + 1) % lanes], p)] for lane in range(lanes)]
        for p in range(phases)
    ]


@pytest.mark.parametrize("lanes", [1, 2, 3, 4])
def test_a_phase_sees_all_that_an_earlier_one_wrote(lanes):
    """Thousands of times, with neighbours in other cache lines and in the same one."""
    for width in (1, 8):
        x, expected = np.zeros(2 * lanes * width, np.int64), np.zeros(2 * lanes * width, np.int64)
        phases = 20
        job = Job(relay(lanes, phases, x, width))
        for _ in range(400 if lanes == 2 else 40):
            for p in range(phases):
                for lane in range(lanes):
                    at = [(q % 2 * lanes + n) * width for q, n in ((p, lane), (p + 1, (lane + 1) % lanes))]
                    compute(expected, *at, p)
            parallel.run_job(job)
            assert (x == expected).all()


_call = st.tuples(st.integers(0, 3), st.integers(0, 15), st.integers(0, 9), st.integers(0, 300))


@settings(max_examples=40)
@given(st.integers(1, 4), st.lists(st.lists(_call, max_size=6), min_size=1, max_size=6), st.booleans())
def test_jobs_that_are_drawn(lanes, drawn, alone):
    """Lanes write what is theirs and read what others wrote in earlier phases: any order within a phase will do."""
    x = np.arange(16)
    before = x.copy()
    phases = []
    for calls in drawn:
        shares = [[] for _ in range(lanes)]
        for lane, read, number, turns in calls:
            lane %= lanes
            shares[lane].append((4 * lane + number % 4, read, number, turns))
        theirs = {at: lane for lane, share in enumerate(shares) for at, *_ in share}
        shares = [
            [(at, read if theirs.get(read, lane) == lane else at, number, turns) for at, read, number, turns in share]
            for lane, share in enumerate(shares)
        ]
        phases.append(shares[: max((i + 1 for i, share in enumerate(shares) if share), default=0)])
    job = Job([
        [[call for at, read, number, turns in share for call in (rest(turns), step(x, at, read, number))]
         for share in shares] for shares in phases
    ])  # fmt: skip
    for _ in range(3):
        for shares in phases:
            for share in shares:
                for at, read, number, _ in share:
                    compute(before, at, read, number)
        job.alone() if alone else parallel.run_job(job)
        assert (x == before).all()


def test_lanes_without_calls_and_of_uneven_lengths_wait_for_the_others():
    x = np.zeros(64, np.int64)
    phases = [
        [[], [], [rest(20_000), step(x, 0, 1, 5)]],
        [[step(x, 8, 0)]],
        [[], [step(x, 16, 8), step(x, 16, 0), step(x, 16, 8)] * 10],
        [],
        [[], [], []],
        [[step(x, 24, 16)], [], [step(x, 32, 16)]],
    ]
    job = Job(phases)
    assert job.lanes == 3
    expected = x.copy()
    for _ in range(200):
        for shares in phases:
            for share in shares:
                for call, _ in share:
                    if len(call.words) == 4:
                        compute(expected, *call.words[1:])
        parallel.run_job(job)
        assert (x == expected).all()


def test_a_job_without_calls_does_nothing():
    for phases in ([[]], [[[]]], [[[], []]], [[], [[], [], []]]):
        job = Job(phases)
        assert job.lanes == max(map(len, phases))
        job.alone()
        parallel.run_job(job)


def test_all_calls_alone_in_the_order_of_phases_and_lanes():
    x, expected = np.ones(4, np.int64), np.ones(4, np.int64)
    calls = [[[(0, 1, 2)], [(1, 0, 5), (2, 1, 1)]], [[(3, 2, 0)], [(0, 3, 1)]]]
    Job([[[step(x, *c) for c in lane] for lane in lanes] for lanes in calls]).alone()
    for lanes in calls:
        for lane in lanes:
            for c in lane:
                compute(expected, *c)
    assert x.tolist() == expected.tolist()


def test_words_that_change_between_runs_are_read_anew():
    x, y = np.zeros(16, np.int64), np.zeros(16, np.int64)
    calls = [step(x, 0, 0, 1), step(x, 8, 8, 1)]
    job = Job([[calls[:1], calls[1:]]])
    parallel.run_job(job)
    for call, _ in calls:
        call.words[0] = native.start_of(y)
        call.words[3] = 7
    parallel.run_job(job)
    assert (x[[0, 8]] == 1).all() and (y[[0, 8]] == 7).all()


# Who does it


def threads_of(lanes, tries=200):
    """Make jobs until one was made together; return whether each lane was the work of another thread.

    Each lane waits until all others have begun, which no thread alone would see the end of: with an end for that.
    """
    code = Code("i64")
    code.run("%mine = atomicrmw add ptr %x, i64 1 seq_cst")
    with code.loop(0, "%most") as i:
        seen = code.let("load atomic i64, ptr %x seq_cst, align 8")
        with code.when(seen, "sge", "%lanes"):
            code.store(i, "%found", "i64", 8)
        code.run("call i32 @sched_yield()")
    text = module(
        "declare i32 @sched_yield()\n"
        + code.define("internal void @meet(ptr %x, ptr %found, i64 %lanes, i64 %most)"),
        "meet", ["ptr", "ptr", "i64", "i64"],
    )  # fmt: skip
    for _ in range(tries):
        x, found = np.zeros(1, np.int64), [np.full(1, -1, np.int64) for _ in range(lanes)]
        job = Job([[[(Call(text, (x, found[lane]), (lanes, 200)), ())] for lane in range(lanes)]])
        parallel.run_job(job)
        assert x[0] == lanes
        if all(f[0] >= 0 for f in found):
            return True
    return False


@pytest.mark.skipif(not hasattr(os, "sched_yield"), reason="needs sched_yield")
@pytest.mark.parametrize("lanes", [2, 3, 4])
def test_lanes_run_at_the_same_time(lanes):
    assert threads_of(lanes)


def test_nothing_becomes_a_job_where_llvmlite_is_missing():
    code = (
        "import sys\n"
        "sys.modules['llvmlite'] = sys.modules['llvmlite.binding'] = None\n"
        "import numpy as np\n"
        "import minigrad as mg\n"
        "from minigrad import native, parallel\n"
        "assert not native.available()\n"
        "parallel.run([[], []])\n"
        "made = []\n"
        "parallel.run([[(made.append, (i,))] for i in range(3)])\n"
        "assert sorted(made) == [0, 1, 2]\n"
        "f = mg.compile(lambda x: [(x * 2.0 + 1.0).sum(), x[:0] * 2.0, (x @ x.mT).sum(axis=0)], threads=2)\n"
        "for _ in range(3):\n"
        "    a, b, c = f(np.ones((70, 70), 'float32'))\n"
        "assert a.item() == 14700 and b.shape == (0, 70) and c.shape == (70,)\n"
        "print('done')\n"
    )
    assert ended(code) == ("done\n", 0)


def test_a_phase_without_calls_is_no_job_where_llvmlite_is_missing(monkeypatch):
    assert Phase(2).is_native
    monkeypatch.setattr("minigrad.program.phases.available", lambda: False)
    assert not Phase(2).is_native


def ended(code, timeout=60, **environment):
    """What a process printed, and how it ended; -9 where it had to be killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, **environment},
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
    return out + err, process.returncode


def test_one_thread_makes_everything_where_there_is_one():
    code = """
import threading
import numpy as np
import minigrad as mg
from minigrad import parallel
f = mg.compile(lambda x: [mg.tanh(x @ x.mT * 2.0).sum(axis=0)], kernels=True)
for _ in range(3):
    x = mg.tensor(np.random.default_rng(0).normal(size=(300, 300)).astype("float32"))
    print(f(x)[0].numpy().tobytes() == mg.tanh(x @ x.mT * 2.0).sum(axis=0).numpy().tobytes())
print(parallel.cores(), len(parallel._workers), threading.active_count())
"""
    assert ended(code, MINIGRAD_THREADS="1") == ("True\nTrue\nTrue\n1 0 1\n", 0)


# Memory


def test_a_job_may_be_freed_right_after_its_run():
    """What is freed is overwritten here first: a thread that still read it would go astray."""
    addresses = []
    for turn in range(1500):
        x = np.zeros(32, np.int64)
        lanes = 2 + turn % 2
        job = Job([[[step(x, 8 * lane, 8 * lane, 1)] for lane in range(lanes)]] * (1 + turn % 3))
        parallel.run_job(job)
        assert (x[: 8 * lanes : 8] >= 1).all()
        for memory in (job._words, job._progress, job._mails, *job._lists, *(c.words for c in job._calls)):
            ctypes.memset(memory, 0xFF, ctypes.sizeof(memory))
        addresses.append(ctypes.addressof(job._words))
        del job
    assert len(set(addresses)) < len(addresses)  # memory was used again


def test_no_worker_is_at_work_after_a_run():
    x = np.zeros(32, np.int64)
    for turn in range(1000):
        parallel.run_job(Job([[[step(x, 8 * lane, 8 * lane, 1), rest(turn % 50)] for lane in range(3)]]))
        states = [worker.mail[handover.STATE] for worker in parallel._workers[:2]]
        assert not {handover.WORKING, handover.KEPT} & set(states)


def test_jobs_do_not_pile_up():
    x = np.zeros(32, np.int64)

    def live():
        gc.collect()
        return sum(type(o) in (Job, Call) for o in gc.get_objects())

    before = live()
    for _ in range(50):
        parallel.run_job(Job([[[step(x, 0, 0)], [step(x, 8, 8)]]]))
    assert live() < before + 10  # others may come and go meanwhile; the 50 jobs and 100 calls are gone


# Several callers


def in_four_threads(work):
    """Call `work` with the numbers 0 to 3 at the same time, and see all calls end."""
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


def test_several_python_threads_use_jobs_at_once():
    failures = []

    def work(seed):
        x, expected = np.zeros(64, np.int64), np.zeros(64, np.int64)
        lanes = 2 + seed % 3
        job = Job(relay(lanes, 5, x))
        for _ in range(150):
            parallel.run_job(job)
            for p in range(5):
                for lane in range(lanes):
                    at = [(q % 2 * lanes + n) * 8 for q, n in ((p, lane), (p + 1, (lane + 1) % lanes))]
                    compute(expected, *at, p)
            if not (x == expected).all():
                failures.append(seed)

    in_four_threads(work)
    assert not failures


def test_jobs_and_shares_of_python_take_turns():
    x, made = np.zeros(64, np.int64), []
    job = Job(relay(3, 4, x))
    expected = np.zeros(64, np.int64)
    for turn in range(300):
        for p in range(4):
            for lane in range(3):
                at = [(q % 2 * 3 + n) * 8 for q, n in ((p, lane), (p + 1, (lane + 1) % 3))]
                compute(expected, *at, p)
        parallel.run_job(job)
        assert (x == expected).all()
        made.clear()
        for _ in range(turn % 3):
            parallel.run([[(made.append, (i,))] for i in range(3)])
        assert sorted(made) == sorted([0, 1, 2] * (turn % 3))
        if turn % 50 == 0:
            time.sleep(0.02)  # until the workers sleep


def test_a_job_inside_of_a_share_of_python():
    """All threads are taken: it is made by whoever asks."""
    x = np.zeros(32, np.int64)

    def inner(start):
        parallel.run_job(Job([[[step(x, start, start, 1)], [step(x, start + 8, start + 8, 1)]]]))

    parallel.run([[(inner, (0,))], [(inner, (16,))]])
    assert x[::8].tolist() == [1, 1, 1, 1]


# When workers sleep


def until_asleep():
    end = time.monotonic() + 10
    while any(worker.mail[handover.STATE] != handover.ASLEEP for worker in parallel._workers):
        assert time.monotonic() < end
        time.sleep(0.001)


def test_workers_sleep_when_nothing_comes_and_wake_again():
    x = np.zeros(32, np.int64)
    job = Job([[[step(x, 8 * lane, 8 * lane, 1)] for lane in range(3)]])
    for _ in range(20):
        x[:] = 0
        parallel.run_job(job)
        assert x[:24:8].tolist() == [1, 1, 1]
        until_asleep()
    if hasattr(time, "pthread_getcpuclockid"):
        clocks = [time.pthread_getcpuclockid(worker._thread.ident) for worker in parallel._workers]
        before = [time.clock_gettime(clock) for clock in clocks]
        time.sleep(0.2)
        taken = [time.clock_gettime(clock) - start for clock, start in zip(clocks, before, strict=True)]
        assert max(taken) < 0.02  # to fall asleep; who goes on looking takes all the time that there is


def test_who_is_not_patient_wakes_workers_and_does_not_wait_for_them():
    x, prepared = np.zeros(32, np.int64), []
    job = Job([[[step(x, 8 * lane, 8 * lane, 1)] for lane in range(3)]])
    parallel.run_job(job)
    until_asleep()
    x[:] = 0
    assert not parallel.share_job(job, lambda: prepared.append(1), patient=False)
    assert not x.any() and not prepared  # nothing was done
    end = time.monotonic() + 10
    while not parallel.share_job(job, lambda: prepared.append(1), patient=False):
        assert time.monotonic() < end
        assert not x.any() and not prepared
    assert x[:24:8].tolist() == [1, 1, 1] and prepared == [1]


def test_a_job_is_prepared_by_one_thread_at_a_time():
    """Jobs whose words change from run to run: no other thread may prepare them meanwhile."""
    lanes = [[step(np.zeros(16, np.int64), 8 * lane, 8 * lane, 7), rest(50)] for lane in range(2)]
    job = Job([lanes])
    results = []

    def work():
        for _ in range(300):
            own = np.zeros(16, np.int64)

            def aim(own=own):
                for (call, _), _ in lanes:
                    call.words[0] = native.start_of(own)
                    time.sleep(0)

            if parallel.share_job(job, aim):
                results.append(own[::8].tolist())

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results and all(found == [7, 7] for found in results)


def test_a_job_is_made_where_no_worker_comes(monkeypatch):
    """As when the system lets none of them run."""
    x = np.zeros(32, np.int64)
    parallel.run([[], [], [(x.sum, ())]])
    until_asleep()
    monkeypatch.setattr(parallel._Worker, "look", lambda self: None)
    monkeypatch.setattr(parallel, "TRIES", 3)
    parallel.run_job(Job([[[step(x, 8 * lane, 8 * lane, 1)] for lane in range(3)]]))
    assert x[:24:8].tolist() == [1, 1, 1]


def test_a_worker_that_comes_alone_is_let_go_again():
    """Of two that are asked one sleeps: nothing is made, and the other one may sleep or work."""
    x = np.zeros(32, np.int64)
    job = Job([[[step(x, 8 * lane, 8 * lane, 1)] for lane in range(3)]])
    parallel.run_job(job)
    x[:] = 0
    looking, asleep = handover.mailbox(), handover.mailbox()
    looking[handover.STATE] = handover.LOOKING
    for mailboxes in ([looking, asleep], [asleep, looking]):
        assert not job.together(mailboxes)
        assert (looking[handover.STATE], asleep[handover.STATE]) == (handover.LOOKING, handover.ASLEEP)
    assert not x.any()
    parallel.run_job(job)
    assert x[:24:8].tolist() == [1, 1, 1]


def unserved():
    """The mailbox of a thread that looks for work, and that the system does not let run."""
    mail = handover.mailbox()
    mail[handover.STATE] = handover.LOOKING
    return mail


@pytest.mark.parametrize("lanes", [2, 3, 4])
def test_what_no_thread_begins_is_taken_back(lanes):
    x, expected = np.zeros(16 * lanes, np.int64), np.zeros(16 * lanes, np.int64)
    phases = 5
    job = Job(relay(lanes, phases, x))
    for _ in range(3):
        mailboxes = [unserved() for _ in range(lanes - 1)]
        assert job.together(mailboxes)
        assert [mail[handover.STATE] for mail in mailboxes] == [handover.LOOKING] * (lanes - 1)
        for p in range(phases):
            for lane in range(lanes):
                compute(expected, *((q % 2 * lanes + n) * 8 for q, n in ((p, lane), (p + 1, (lane + 1) % lanes))), p)
        assert (x == expected).all()


@pytest.mark.parametrize("order", [1, -1])
def test_threads_that_come_work_beside_those_that_do_not(order):
    x, expected = np.zeros(48, np.int64), np.zeros(48, np.int64)
    phases, helped = 6, 0
    shares = relay(3, phases, x)
    for lanes in shares:
        lanes[0].append(rest(3000))  # long enough for a thread that runs to begin
    job, two = Job(shares), Job([[[step(np.zeros(32, np.int64), 8 * i, 8 * i)] for i in range(2)]])
    end = time.monotonic() + 20
    while helped < 20:
        assert time.monotonic() < end
        parallel.run_job(two)  # wakes the first worker
        if job.together([parallel._workers[0].mail, unserved()][::order]):
            helped += 1
            for p in range(phases):
                for lane in range(3):
                    compute(expected, *((q % 2 * 3 + n) * 8 for q, n in ((p, lane), (p + 1, (lane + 1) % 3))), p)
            assert (x == expected).all()


def test_who_asks_a_worker_to_leave_need_not_wait(monkeypatch):
    monkeypatch.setattr(handover, "LOOKS_BEFORE_SLEEP", 300_000)
    mail, took = handover.mailbox(), []
    for leave in (0, 1):  # until it is tired, and at once
        mail[handover.LEAVE] = leave
        start = time.thread_time()
        handover.serve(mail)
        took.append(time.thread_time() - start)
        assert mail[handover.STATE] == handover.ASLEEP
    assert took[1] < took[0] / 10


def test_shares_of_python_do_not_wait_for_workers_that_look_for_jobs(monkeypatch):
    x = np.zeros(32, np.int64)
    monkeypatch.setattr(handover, "LOOKS_BEFORE_SLEEP", 30_000_000)  # many seconds
    parallel.run_job(Job([[[step(x, 8 * lane, 8 * lane, 1)] for lane in range(2)]]))
    start = time.monotonic()
    for _ in range(3):
        parallel.run([[], [(x.sum, ())]])
    assert time.monotonic() - start < 2
    until_asleep()


def test_workers_look_for_jobs_again_after_shares_of_python(monkeypatch):
    x = np.zeros(32, np.int64)
    job = Job([[[step(x, 8 * lane, 8 * lane, 1)] for lane in range(2)]])
    monkeypatch.setattr(parallel, "TRIES", 10_000)  # not alone, however busy the machine is
    alone = []
    monkeypatch.setattr(Job, "alone", lambda self: alone.append(self))
    for turn in range(1, 6):
        parallel.run([[], [(x.sum, ())]])
        parallel.run_job(job)
        assert x[0] == x[8] == sum(4**i for i in range(turn)) and not alone


# Interruptions


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers of signals here")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # interruptions that Python dropped
def test_interruptions_at_any_moment_do_no_harm_to_later_jobs():
    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    x, made = np.zeros(32, np.int64), [0, 0]

    def add(i):
        made[i] += 1

    shares = [[(add, (i,))] for i in range(2)]
    job = Job([[[step(x, 8 * lane, 8 * lane, 1), rest(200)] for lane in range(2)]] * 3)

    def go_on(with_shares):  # not in the `try` itself, past whose handler Ctrl-C in a loop may come out from 3.12 on
        end = time.monotonic() + 1.0  # what a signal raises in a callback of the garbage collector is dropped
        while time.monotonic() < end:
            parallel.run_job(job)
            if with_shares:
                parallel.run(shares)

    try:
        for i in range(300):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-4 + 1e-6 * i)
                go_on(i % 2)
            except KeyboardInterrupt:
                pass
            x[:], made[:] = 0, [0, 0]
            parallel.run_job(job)
            assert x[:16:8].tolist() == [21, 21]  # three times 4 * x + 1
            assert parallel._free  # nobody keeps the workers
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="there are no signals to threads here")
def test_an_interruption_waits_for_the_end_of_the_job():
    x = np.zeros(32, np.int64)
    job = Job([[[rest(3_000_000), step(x, 8 * lane, 8 * lane, 1)] for lane in range(2)]] * 2)
    main = threading.main_thread().ident
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        done = 0
        for _ in range(5):
            timer = threading.Timer(0.002, signal.pthread_kill, (main, signal.SIGINT))
            with pytest.raises(KeyboardInterrupt):
                timer.start()
                while True:
                    x[:] = 0
                    parallel.run_job(job)
            done += 1
            assert x[0] == x[8] and x[0] in (0, 5)  # all of it, or not begun
        assert done == 5
    finally:
        signal.signal(signal.SIGINT, before)


# Processes

LATE = """
import os, sys, threading, time
import numpy as np
from minigrad import parallel
from minigrad.handover import Job
from tests.minigrad.test_handover import relay, rest, step
x = np.zeros(64, np.int64)
job = Job([[[step(x, 0, 0, 1)], [step(x, 8, 8, 1)], [step(x, 16, 16, 1)]]])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("begun", [False, True])
def test_a_forked_child_has_workers_of_its_own(begun):
    """In a process of its own, which a child that waits for ever does not hold up."""
    code = (
        LATE
        + f"""
import warnings
warnings.simplefilter("ignore")
for _ in range(4):
    if {begun}:
        parallel.run_job(job)
    x[:] = 0
    child = os.fork()
    if child == 0:
        for _ in range(3):
            x[:] = 0
            parallel.run_job(job)
        made = []
        parallel.run([[(made.append, (i,))] for i in range(3)])
        os._exit(0 if x[:24:8].tolist() == [1, 1, 1] and sorted(made) == [0, 1, 2] else 1)
    assert os.waitpid(child, 0)[1] == 0
    parallel.run_job(job)
    assert x[:24:8].tolist() == [1, 1, 1]
print("done")
"""
    )
    assert ended(code) == ("done\n", 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_while_another_thread_runs_a_job():
    code = (
        LATE
        + """
import warnings
warnings.simplefilter("ignore")
y = np.zeros(64, np.int64)
stop = []
def busy():
    long = Job(relay(2, 50, y))
    while not stop:
        parallel.run_job(long)
thread = threading.Thread(target=busy)
thread.start()
for _ in range(5):
    child = os.fork()
    if child == 0:
        x[:] = 0
        parallel.run_job(job)
        os._exit(0 if x[:24:8].tolist() == [1, 1, 1] else 1)
    assert os.waitpid(child, 0)[1] == 0
stop.append(1)
thread.join()
print("done")
"""
    )
    assert ended(code) == ("done\n", 0)


ENDINGS = {
    "at once": "",
    "while workers sleep": "time.sleep(0.1)",
    "in an object that goes last": """
class Late:
    def __del__(self, run=parallel.run_job, job=job, x=x, write=os.write):
        x[:] = 0
        run(job)
        write(1, bytes(str(x[:24:8].tolist()) + "\\n", "ascii"))
late = Late()
""",
    "while another thread makes jobs": """
def forever():
    while True:
        parallel.run_job(job)
threading.Thread(target=forever, daemon=True).start()
time.sleep(0.01)
""",
    "in an error": "raise SystemExit(0)",
}


@pytest.mark.parametrize("how", ENDINGS)
def test_python_ends_while_threads_look_for_work(how):
    code = LATE + "for _ in range(50): parallel.run_job(job)\nprint('ready', flush=True)\n" + ENDINGS[how]
    expected = "ready\n" + ("[1, 1, 1]\n" if "object" in how else "")
    assert ended(code) == (expected, 0)


def test_a_job_while_python_exits_starts_no_thread():
    assert ended(LATE + ENDINGS["in an object that goes last"], timeout=20) == ("[1, 1, 1]\n", 0)


# Compiled steps


def test_compiled_steps_in_several_threads_at_once():
    """Each thread has a step of its own; who finds the workers taken works alone."""
    failures = []

    def work(seed):
        x = np.random.default_rng(seed).normal(size=(130, 140)).astype("float32")

        def f(x):
            y = mg.tanh(x @ x.mT) * 0.5 + 1.0
            return [y.sum(axis=0), (y * y).mean(), y @ x]

        compiled = mg.compile(f, threads=2, kernels=True)
        expected = [t.numpy().tobytes() for t in f(mg.tensor(x))]
        for _ in range(30):
            if [t.numpy().tobytes() for t in compiled(x)] != expected:
                failures.append(seed)

    in_four_threads(work)
    assert not failures
