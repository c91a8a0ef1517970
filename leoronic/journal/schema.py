"""The tables of the journal.

`entries` is the journal itself, what other nodes get. `tasks` and `attempts` are the join of the
entries, written in the same transaction, so that no question ever needs the whole history.
"""

from __future__ import annotations

VERSION = 1

LIVE = 0
STATE_CODES = {"succeeded": 1, "failed": 2, "cancelled": 3}
STATE_NAMES = {code: name for name, code in STATE_CODES.items()}

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

CREATE TABLE origins (origin INTEGER PRIMARY KEY, node TEXT NOT NULL UNIQUE);

CREATE TABLE entries (
  origin INTEGER NOT NULL,
  number INTEGER NOT NULL,
  body   BLOB NOT NULL,          -- the entry as JSON
  PRIMARY KEY (origin, number)
) WITHOUT ROWID;

CREATE TABLE tasks (
  ord          INTEGER PRIMARY KEY,   -- order of submission
  id           TEXT NOT NULL,
  origin       INTEGER NOT NULL,      -- of its Submitted entry
  submitted_at REAL NOT NULL,
  name         TEXT,
  labels       TEXT,                  -- ' k=v k=v ' for searching
  redo_of      TEXT,
  elements     INTEGER,               -- of an array: how many
  succeeded    INTEGER,               -- of an array that ended: how many did
  failed       INTEGER,
  state        INTEGER NOT NULL DEFAULT 0,
  ended_at     REAL,
  revision     INTEGER NOT NULL DEFAULT 0,
  held         TEXT,
  end_no       INTEGER                -- of the Cancelled or Ended entry
);
CREATE UNIQUE INDEX tasks_id ON tasks(id);
CREATE INDEX tasks_live ON tasks(ord) WHERE state = 0;
CREATE INDEX tasks_ended ON tasks(state, ord) WHERE state > 0;
CREATE INDEX tasks_arrays ON tasks(ord) WHERE elements IS NOT NULL;
CREATE INDEX tasks_name ON tasks(name, ord) WHERE name IS NOT NULL;
CREATE INDEX tasks_redo ON tasks(redo_of, ord) WHERE redo_of IS NOT NULL;

-- Who waits for whom: what a live task runs after is not forgotten before it.
CREATE TABLE dependencies (parent TEXT, task TEXT, PRIMARY KEY (parent, task)) WITHOUT ROWID;

CREATE TABLE attempts (
  task       TEXT NOT NULL,           -- ID or ID.INDEX
  attempt    INTEGER NOT NULL,        -- from 1; 0: cancelled before the first
  node       TEXT NOT NULL,
  runner     TEXT NOT NULL DEFAULT '',    -- the life of the runner it was meant for
  started_at REAL,
  ended_at   REAL,                    -- NULL: no end is known
  final      INTEGER NOT NULL DEFAULT 0,
  state      INTEGER NOT NULL DEFAULT 0,  -- as in tasks, of an attempt that is final
  lost       TEXT,                    -- the suspicion, if it was lost
  hold       INTEGER NOT NULL DEFAULT 0,
  begun      INTEGER NOT NULL DEFAULT 1,  -- 0: lost before anything of it ran
  start_no   INTEGER,                     -- the numbers of its entries
  end_no     INTEGER,
  outcome    BLOB,                    -- JSON
  PRIMARY KEY (task, attempt)
) WITHOUT ROWID;
CREATE INDEX attempts_failed ON attempts(task) WHERE state = 2;
CREATE INDEX attempts_open ON attempts(node) WHERE ended_at IS NULL;

CREATE TABLE tags (node TEXT, tag TEXT, at REAL, present INTEGER, PRIMARY KEY (node, tag))
  WITHOUT ROWID;
"""
