"""The tables of the journal.

`entries` is the journal itself, what other nodes get, of all origins in the order in which they
came here (`seq`, which keeps cause before effect). The other tables are the join of the entries,
written in the same transaction, so that no question ever needs the whole history. What is joined
is the same on two nodes that hold the same entries, but for the columns that hold a `seq`.
"""

from __future__ import annotations

VERSION = 3

LIVE = 0
STATE_CODES = {"succeeded": 1, "failed": 2, "cancelled": 3}
STATE_NAMES = {code: name for name, code in STATE_CODES.items()}

STREAM_BITS = {"stdout": 1, "stderr": 2}
"""In `attempts.uncopied`: streams of which no other node is known to keep a copy."""

PRAGMAS = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA wal_autocheckpoint = 2000;
PRAGMA journal_size_limit = 8388608;
PRAGMA temp_store = MEMORY;
PRAGMA cache_size = -1024;
"""

TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE origins (
  origin INTEGER PRIMARY KEY,         -- 1 is this node
  node   TEXT NOT NULL UNIQUE,
  have   INTEGER NOT NULL DEFAULT 0,  -- all its entries up to this are here, or forgotten
  floor  INTEGER NOT NULL DEFAULT 0   -- up to this, some are forgotten
);

CREATE TABLE entries (
  seq    INTEGER PRIMARY KEY,
  origin INTEGER NOT NULL,
  number INTEGER NOT NULL,
  body   BLOB NOT NULL           -- the entry as JSON, as its writer wrote it
);
CREATE UNIQUE INDEX entries_number ON entries(origin, number);

CREATE TABLE tasks (
  ord          INTEGER PRIMARY KEY,   -- seq of the first Submitted: order of arrival here
  id           TEXT NOT NULL,
  origin       INTEGER NOT NULL,      -- of the Submitted that holds
  number       INTEGER NOT NULL,
  entry        INTEGER NOT NULL,      -- its seq; another's than `ord` if the id was taken twice
  submitted_at REAL NOT NULL,
  name         TEXT,
  labels       TEXT,                  -- ' k=v k=v ' for searching
  redo_of      TEXT,
  cache_key    TEXT,                  -- what tasks that do the same have in common
  elements     INTEGER,               -- of an array: how many
  succeeded    INTEGER NOT NULL DEFAULT 0,  -- of an array: elements that are final
  failed       INTEGER NOT NULL DEFAULT 0,
  cancelled    INTEGER NOT NULL DEFAULT 0,
  last_at      REAL,                  -- of an array: the latest end of an element
  state        INTEGER NOT NULL DEFAULT 0,
  ended_at     REAL,
  cancelled_at REAL,                  -- the earliest Cancelled of the task itself
  cancel_seq   INTEGER,
  revision     INTEGER NOT NULL DEFAULT 0,
  held         TEXT,
  released     INTEGER NOT NULL DEFAULT 0   -- losses of attempts up to this are forgiven
);
CREATE UNIQUE INDEX tasks_id ON tasks(id);
CREATE INDEX tasks_live ON tasks(ord) WHERE state = 0;
CREATE INDEX tasks_ended ON tasks(state, ord) WHERE state > 0;
CREATE INDEX tasks_arrays ON tasks(ord) WHERE elements IS NOT NULL;
CREATE INDEX tasks_name ON tasks(name, submitted_at) WHERE name IS NOT NULL;
CREATE INDEX tasks_redo ON tasks(redo_of, submitted_at) WHERE redo_of IS NOT NULL;
CREATE INDEX tasks_cache ON tasks(cache_key, ended_at) WHERE cache_key IS NOT NULL;

-- Which blobs a task brings (kind 0), or left when it ended (1).
CREATE TABLE blobs (
  digest TEXT, task TEXT, kind INTEGER, PRIMARY KEY (digest, task, kind)
) WITHOUT ROWID;
CREATE INDEX blobs_task ON blobs(task);

-- Who waits for whom: what a live task runs after is not forgotten before it.
CREATE TABLE dependencies (parent TEXT, task TEXT, PRIMARY KEY (parent, task)) WITHOUT ROWID;
CREATE INDEX dependencies_task ON dependencies(task);

CREATE TABLE attempts (
  task       TEXT NOT NULL,           -- ID or ID.INDEX
  attempt    INTEGER NOT NULL,        -- from 1; 0: the element was cancelled
  node       TEXT NOT NULL,           -- '' with attempt 0
  phase      INTEGER NOT NULL DEFAULT 0,  -- as in core/runs.py
  runner     TEXT NOT NULL DEFAULT '',    -- the life of the runner it was meant for
  started_at REAL,                    -- NULL: its Started is not known
  ended_at   REAL,                    -- of its Finished (or, of attempt 0, its Cancelled)
  final      INTEGER NOT NULL DEFAULT 0,  -- no attempt was to follow
  state      INTEGER NOT NULL DEFAULT 0,  -- as in tasks, once it ended
  winner     INTEGER NOT NULL DEFAULT 0,  -- it gives the task its state
  lost_at    REAL,                    -- it was given up, whatever became of it
  lost       TEXT,                    -- the suspicion
  hold       INTEGER NOT NULL DEFAULT 0,
  gone       INTEGER NOT NULL DEFAULT 0,  -- its own node says that it is lost
  uncopied   INTEGER NOT NULL DEFAULT 0,  -- streams that only its node keeps
  start_seq  INTEGER,                     -- of its entries
  end_seq    INTEGER,
  lost_seq   INTEGER,
  outcome    BLOB,                    -- JSON
  PRIMARY KEY (task, attempt, node)
) WITHOUT ROWID;
CREATE INDEX attempts_failed ON attempts(task) WHERE winner = 1 AND state = 2;
CREATE INDEX attempts_open ON attempts(node) WHERE phase < 2 AND gone = 0;
CREATE INDEX attempts_uncopied ON attempts(end_seq) WHERE uncopied > 0;

-- Up to which attempt the losses of an array's element are forgiven.
CREATE TABLE releases (task TEXT PRIMARY KEY, attempt INTEGER, seq INTEGER) WITHOUT ROWID;

-- Tasks and elements that may have run twice at a time: where to look for splits.
CREATE TABLE doubled (task TEXT PRIMARY KEY) WITHOUT ROWID;

CREATE TABLE copies (
  task TEXT, attempt INTEGER, node TEXT, stream TEXT, keeper TEXT, size INTEGER, seq INTEGER,
  PRIMARY KEY (task, attempt, node, stream, keeper)
) WITHOUT ROWID;

CREATE TABLE suspicions (
  node TEXT, writer TEXT, at REAL, reason TEXT, seq INTEGER,
  PRIMARY KEY (node, writer, at, reason)
) WITHOUT ROWID;
CREATE INDEX suspicions_at ON suspicions(at);

CREATE TABLE tags (
  node TEXT, tag TEXT, at REAL, present INTEGER, seq INTEGER, PRIMARY KEY (node, tag)
) WITHOUT ROWID;
CREATE INDEX tags_seq ON tags(seq);
CREATE INDEX suspicions_seq ON suspicions(seq);
"""
