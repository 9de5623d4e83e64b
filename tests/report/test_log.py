"""The log: what was written is read, whatever was killed in between, and nothing undone passes for done."""

import json
import os
import random
import signal
import time

import numpy as np
import pytest

from etude.errors import CheckpointError
from etude.report.log import Log, read

FIRST = {"type": "start", "run": "x", "resumed": None}


def start(k=None, name=None):
    return (
        FIRST
        if k is None
        else {"type": "start", "resumed": {"checkpoint": name or f"{k:08d}", "t": float(k), "updates": k}}
    )


def update(k, t=None, skipped=False):
    return {"type": "update", "k": k, "t": t or [float(k), k + 1.0], "loss": 0.5, "skipped": skipped}


def evaluation(k, loss=0.5):
    return {"type": "eval", "t": float(k), "k": k, "metrics": {"loss": loss}}


def edit(at, author="plateau"):
    return {"type": "edit", "edit": "scale", "at": float(at), "by": 0.5, "author": author}


def checkpoint(k):
    return {"type": "checkpoint", "k": k, "t": float(k), "name": f"{k:08d}"}


def written(path, *records):
    with Log(path) as log:
        for record in records:
            log.write(record)
    return path


def ks(records):
    return [record["k"] for record in records]


def test_a_run_is_read_as_it_was_written(tmp_path):
    end = {"type": "end", "reason": "finished", "k": 2, "t": 2.0}
    path = written(
        tmp_path / "log.jsonl", FIRST, update(0), update(1), evaluation(2), edit(2), checkpoint(2), end
    )
    records = read(path)
    assert records.start == FIRST
    assert records.updates == [update(0), update(1)]
    assert records.evals == [evaluation(2)]
    assert records.edits == [edit(2)]
    assert records.checkpoints == [checkpoint(2)]
    assert (records.end, records.abandoned) == (end, [])


def test_numbers_that_json_cannot_say_become_null_and_numpys_become_plain(tmp_path):
    numbers = {"loss": float("nan"), "grad_norm": np.float32("inf"), "n": np.int64(3)}
    record = update(0) | numbers | {"seen": (np.float32(0.5), -float("inf"))}
    path = written(tmp_path / "log.jsonl", FIRST, record)
    got = read(path).updates[0]
    assert (got["loss"], got["grad_norm"], got["n"], got["seen"]) == (None, None, 3, [0.5, None])
    assert record["n"].dtype == np.int64, "the caller's record stays as it was"
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(word))


def test_updates_wait_for_a_flush_and_everything_else_does_not(tmp_path):
    path = tmp_path / "log.jsonl"
    with Log(path) as log:
        log.write(FIRST)
        log.write(update(0))
        assert read(path).updates == []
        log.flush()
        assert ks(read(path).updates) == [0]
        log.write(update(1))
        log.write(evaluation(2))
        assert ks(read(path).updates) == [0, 1]
        log.write(update(2))
    assert ks(read(path).updates) == [0, 1, 2]


@pytest.mark.parametrize("cut", [1, 5, 20, 60])
def test_a_torn_line_is_dropped_and_the_next_process_begins_on_a_fresh_one(tmp_path, cut):
    path = written(tmp_path / "log.jsonl", FIRST, update(0), checkpoint(1), update(1), update(2))
    path.write_bytes(path.read_bytes()[:-cut])
    assert ks(read(path).updates) == ([0, 1, 2] if cut == 1 else [0, 1])
    records = read(written(path, start(1), update(1), update(2), update(3)))
    assert ks(records.updates) == [0, 1, 2, 3]
    assert ks(records.abandoned) == ([1, 2] if cut == 1 else [1])


def test_a_log_torn_twice_is_still_read(tmp_path):
    path = written(tmp_path / "log.jsonl", FIRST, update(0), update(1))
    for _ in range(2):
        path.write_bytes(path.read_bytes()[:-10])
        written(path, FIRST, update(0), update(1))
    assert ks(read(path).updates) == [0, 1]
    assert len(read(path).starts) == 3


@pytest.mark.parametrize("damage", [b'{"type": "update", "k": NaN}', b"\xff\xfe", b"[1, 2]", b'{"type": "up'])
def test_a_broken_line_that_no_kill_explains_is_named_by_its_number(tmp_path, damage):
    path = written(tmp_path / "log.jsonl", FIRST, update(0), update(1))
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[:2], damage, *lines[2:]]) + b"\n")
    with pytest.raises(CheckpointError, match=r"log\.jsonl: line 3 is broken: "):
        read(path)


def test_a_log_without_a_start_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        read(tmp_path / "log.jsonl")
    (tmp_path / "log.jsonl").touch()
    with pytest.raises(CheckpointError, match="no record yet"):
        read(tmp_path / "log.jsonl")
    with pytest.raises(CheckpointError, match="line 1 stands before"):
        read(written(tmp_path / "log.jsonl", update(0)))


def test_a_resume_sets_apart_what_came_after_its_checkpoint(tmp_path):
    path = written(
        tmp_path / "log.jsonl",
        FIRST, update(0), update(1), evaluation(2), edit(2), checkpoint(2),
        update(2, [2.0, 2.0], skipped=True), update(2), evaluation(3), edit(3, "lost"), checkpoint(3),
        {"type": "end", "reason": "interrupted", "k": 3, "t": 3.0},
        start(2), update(2), update(3), evaluation(4),
    )  # fmt: skip
    records = read(path)
    assert ks(records.updates) == [0, 1, 2, 3]
    assert ks(records.evals) == [2, 4]
    assert [e["author"] for e in records.edits] == ["plateau"]
    assert ks(records.checkpoints) == [2]
    assert records.start["resumed"]["updates"] == 2
    assert records.end is None
    assert [r["type"] for r in records.abandoned] == ["update", "update", "eval", "edit", "checkpoint"]
    assert records.abandoned[0]["skipped"]


def test_a_resume_from_a_checkpoint_that_the_log_missed_goes_by_the_clock(tmp_path):
    path = written(
        tmp_path / "log.jsonl",
        FIRST,
        update(0),
        update(1),
        evaluation(2),
        edit(2),
        update(2),
        edit(3),
        start(2),
    )
    records = read(path)
    assert (ks(records.updates), ks(records.evals), [e["at"] for e in records.edits]) == ([0, 1], [2], [2.0])
    assert len(records.abandoned) == 2


def test_a_resume_without_a_checkpoint_begins_again(tmp_path):
    records = read(written(tmp_path / "log.jsonl", FIRST, update(0), edit(1), FIRST, update(0)))
    assert records.updates == [update(0)]
    assert (records.edits, len(records.abandoned), len(records.starts)) == ([], 2, 2)


def test_a_rollback_abandons_its_branch_and_keeps_the_edits_of_its_checkpoint(tmp_path):
    rollback = {"type": "edit", "edit": "rollback", "at": 4.0, "to": 2.0, "keep": 1, "author": "guard"}
    path = written(
        tmp_path / "log.jsonl",
        FIRST, update(0), update(1), edit(2), checkpoint(2), update(2), edit(3, "undone"), update(3),
        rollback, edit(2, "guard"), update(2), update(3), checkpoint(4), update(4), edit(5, "lost"),
    )  # fmt: skip
    records = read(path)
    assert ks(records.updates) == [0, 1, 2, 3, 4]
    assert [e["author"] for e in records.edits] == ["plateau", "guard", "guard", "lost"]
    assert [r.get("author", r["type"]) for r in records.abandoned] == ["update", "undone", "update"]
    # The list of the checkpoint at 4 is plateau, undone, rollback, guard: a second rollback keeps all four.
    again = {**rollback, "at": 6.0, "to": 4.0, "keep": 4}
    records = read(written(path, again, update(4)))
    assert [e["author"] for e in records.edits] == ["plateau", "guard", "guard", "guard"]
    records = read(written(path, start(4), again))
    assert [e["author"] for e in records.edits] == ["plateau", "guard", "guard", "guard"]
    assert ks(records.updates) == [0, 1, 2, 3]


def test_without_a_checkpoint_in_the_log_a_rollback_goes_by_the_clock_and_the_list_of_edits(tmp_path):
    def back(at, to, keep):
        return edit(at, "guard") | {"edit": "rollback", "to": float(to), "keep": keep}

    killed = [FIRST, update(0), update(1), edit(2, "first"), update(2), edit(5, "undone"), back(6, 2, 1)]
    killed += [edit(2, "second"), update(2), checkpoint(3), update(3)]
    resumed = [start(3), update(3), edit(4, "new"), update(4), back(5, 4, 4)]
    path = written(tmp_path / "log.jsonl", *killed, *resumed)
    records = read(path)
    assert ks(records.updates) == [0, 1, 2, 3]
    # The driver's list was first, undone, rollback, second, new; the rollback kept four of it.
    assert [e["author"] for e in records.edits] == ["first", "guard", "second", "guard"]


def test_a_resume_counts_the_edits_of_its_checkpoint_where_the_record_does(tmp_path):
    """By the recipe none of them is in force; after a kill the checkpoint has more than its last record."""
    begin = [FIRST, update(0), edit(1, "first"), checkpoint(1), edit(1, "second")]
    for edits in (0, 1, 2):
        again = start(1)
        again["resumed"] |= {"edits": edits}
        records = read(written(tmp_path / f"{edits}.jsonl", *begin, again, edit(2, "third")))
        expected = [*["first", "second"][:edits], "third"]
        assert [e["author"] for e in records.edits] == [e["author"] for e in records.listed] == expected


def test_what_a_rollback_has_undone_stays_in_the_list_that_a_later_one_counts(tmp_path):
    rollback = {"type": "edit", "edit": "rollback", "at": 4.0, "to": 2.0, "keep": 0, "author": "guard"}
    path = written(tmp_path / "log.jsonl", FIRST, checkpoint(2), edit(3, "undone"), rollback, edit(2))
    records = read(path)
    assert [e["author"] for e in records.edits] == ["guard", "plateau"]
    assert [e["author"] for e in records.listed] == ["undone", "guard", "plateau"]
    assert [r["type"] for r in records.story] == ["start", "checkpoint", "edit", "edit"]


def test_a_full_disk_is_one_clear_message(tmp_path):
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    log = Log(tmp_path / "log.jsonl")
    with pytest.raises(CheckpointError, match=r"log\.jsonl cannot be written: No space left"):
        log.write(FIRST)
    log.close()


def test_a_writer_killed_at_any_moment_leaves_a_log_that_reads_and_goes_on(tmp_path):
    path, rng, k = tmp_path / "log.jsonl", random.Random(1), 0
    path.touch()
    for _ in range(20):
        size = path.stat().st_size
        child = os.fork()
        if not child:
            with Log(path) as log:
                log.write(start(k) if k else FIRST)
                for j in range(k, 10**9):
                    log.write(update(j) | {"rates": {"lr": [1e-5] * 2000}})
                    log.flush()
        while path.stat().st_size < size + 60_000:  # a few updates at least
            time.sleep(0.001)
        time.sleep(0.01 * rng.random())
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        updates = read(path).updates
        assert ks(updates) == list(range(len(updates)))
        k = len(updates) // 2
    assert k
    assert len(read(path).starts) == 20
