"""The statements by which entries are merged into the tables; `join.py` says which and when."""

from __future__ import annotations

ADD_TASK = """
INSERT OR IGNORE INTO tasks(ord, entry, id, origin, number, submitted_at, name, labels, redo_of,
  elements, cache_key)
VALUES (?1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
"""
TWIN = """
SELECT t.ord, t.state, t.elements, t.submitted_at, o.node, t.number
FROM tasks t JOIN origins o ON o.origin = t.origin WHERE t.id = ?
"""
REPLACE_TASK = """
UPDATE tasks SET entry = ?1, origin = ?3, number = ?4, submitted_at = ?5, name = ?6, labels = ?7,
  redo_of = ?8, elements = ?9, cache_key = ?10, succeeded = 0, failed = 0, cancelled = 0
WHERE id = ?2
"""
COUNT_ELEMENTS = """
UPDATE tasks SET
  succeeded = (SELECT count(*) FROM attempts WHERE task > :low AND task < :high AND winner
               AND state = 1 AND CAST(substr(task, :skip) AS INTEGER) < elements),
  failed = (SELECT count(*) FROM attempts WHERE task > :low AND task < :high AND winner
            AND state = 2 AND CAST(substr(task, :skip) AS INTEGER) < elements),
  cancelled = (SELECT count(*) FROM attempts WHERE task > :low AND task < :high AND winner
               AND state = 3 AND CAST(substr(task, :skip) AS INTEGER) < elements)
WHERE id = :id AND elements IS NOT NULL
"""
START = """
INSERT INTO attempts(task, attempt, node, runner, started_at, start_seq)
SELECT :task, :attempt, :node, :runner, :at, :seq
WHERE (SELECT state FROM tasks WHERE id = :base) = 0
  AND NOT EXISTS (SELECT 1 FROM attempts WHERE task = :task AND (attempt >= :attempt OR winner))
"""
GOES_ON = """
SELECT 1 FROM attempts a
WHERE task = :task AND attempt = :attempt AND node = :node AND started_at IS NOT NULL
  AND (:handed OR (outcome IS NULL AND gone = 0
    AND (SELECT state FROM tasks WHERE id = :base) = 0
    AND NOT EXISTS (SELECT 1 FROM attempts b WHERE b.task = a.task
      AND (b.winner OR (b.attempt, b.node) > (a.attempt, a.node)))))
"""
HAS_ENDED = """
SELECT outcome IS NOT NULL, gone, phase FROM attempts WHERE task = ? AND attempt = ? AND node = ?
"""
# Of a run that two nodes tell of (a ghost's), the earliest start counts.
STARTED_ELSEWHERE = """
INSERT INTO attempts(task, attempt, node, runner, started_at, start_seq)
SELECT :task, :attempt, :node, :runner, :at, :seq
WHERE EXISTS (SELECT 1 FROM tasks WHERE id = :base)
ON CONFLICT DO UPDATE SET runner = :runner, started_at = :at, start_seq = :seq
WHERE started_at IS NULL OR (:at, :runner) < (started_at, runner)
"""
DOUBLED = """
INSERT OR IGNORE INTO doubled SELECT ?1 WHERE EXISTS
  (SELECT 1 FROM attempts WHERE task = ?1 AND attempt = ?2 AND node <> ?3)
"""
# The plain case: the end of the only run that could end a task.
FINISH_PLAIN = """
UPDATE attempts SET phase = ?4, ended_at = ?5, outcome = ?6, final = 1, state = ?7, winner = 1,
  end_seq = ?8
WHERE task = ?1 AND attempt = ?2 AND node = ?3 AND outcome IS NULL AND lost_at IS NULL
  AND (SELECT state = 0 AND elements IS NULL FROM tasks WHERE id = ?1)
"""
# The same run's end told twice: the earliest final one counts.
FINISH = """
INSERT INTO attempts(task, attempt, node, phase, ended_at, outcome, final, state, winner, end_seq)
VALUES (:task, :attempt, :node, :phase, :at, :outcome, :final, :state, :winner, :seq)
ON CONFLICT DO UPDATE SET phase = :phase, ended_at = :at, outcome = :outcome, final = :final,
  state = :state, winner = max(winner, :winner), end_seq = :seq
WHERE outcome IS NULL OR (1 - :final, :at, :outcome) < (1 - final, ended_at, outcome)
RETURNING lost_at
"""
LOSE = """
INSERT INTO attempts(task, attempt, node, phase, lost_at, lost, hold, gone, lost_seq)
SELECT :task, :attempt, :node, :phase, :at, :why, :hold, :gone, :seq
WHERE EXISTS (SELECT 1 FROM tasks WHERE id = :base)
ON CONFLICT DO UPDATE SET phase = max(phase, :phase), hold = max(hold, :hold),
  gone = max(gone, :gone), lost_seq = coalesce(lost_seq, :seq),
  lost = CASE WHEN lost IS NULL OR (:at, :why) < (lost_at, lost) THEN :why ELSE lost END,
  lost_at = CASE WHEN lost IS NULL OR :at < lost_at THEN :at ELSE lost_at END
RETURNING outcome IS NOT NULL
"""
CANCEL_ELEMENT = """
INSERT INTO attempts(task, attempt, node, phase, ended_at, final, state, end_seq)
VALUES (?1, 0, '', ?2, ?3, 1, ?4, ?5)
ON CONFLICT DO UPDATE SET ended_at = min(ended_at, ?3)
"""
CANCEL_TASK = """
UPDATE tasks SET state = ?2, cancelled_at = min(coalesce(cancelled_at, ?3), ?3),
  ended_at = min(coalesce(cancelled_at, ?3), ?3), cancel_seq = coalesce(cancel_seq, ?4)
WHERE id = ?1
"""
HOLD = """
UPDATE tasks SET revision = ?2, held = ?3
WHERE id = ?1 AND (revision, held IS NOT NULL, coalesce(held, '')) < (?2, ?4, ?5)
"""
TAG = """
INSERT INTO tags VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT DO UPDATE SET at = ?3, present = ?4, seq = ?5 WHERE (at, present) < (?3, ?4)
"""
KEEP = """
INSERT INTO copies SELECT :task, :attempt, :node, :stream, :keeper, :size, :seq
WHERE EXISTS (SELECT 1 FROM tasks WHERE id = :base)
ON CONFLICT DO UPDATE SET size = max(size, :size)
"""
UNCOPIED = """
UPDATE attempts SET uncopied =
  (?4 & ~(SELECT total(1 << (stream = 'stderr')) FROM
    (SELECT DISTINCT stream FROM copies WHERE task = ?1 AND attempt = ?2 AND node = ?3
     AND stream IN ('stdout', 'stderr'))))
WHERE task = ?1 AND attempt = ?2 AND node = ?3 AND ended_at = ?5
"""
END_TASK = "UPDATE tasks SET state = ?, ended_at = ? WHERE id = ?"
