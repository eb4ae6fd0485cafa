"""The tables of `ledger.db`: what is written is never updated, what is updated is a cache."""

VERSION = 1
APPLICATION = 0x50544350  # "PTCP"

# account and reservation are caches of journal and event: `verify` computes them again
_TABLES = """
CREATE TABLE account (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  unit TEXT NOT NULL,
  debit INTEGER NOT NULL DEFAULT 0 CHECK (debit >= 0),
  credit INTEGER NOT NULL DEFAULT 0 CHECK (credit >= 0),
  reserved INTEGER NOT NULL DEFAULT 0 CHECK (reserved >= 0),
  floor INTEGER
) STRICT;
CREATE TABLE reservation (
  seq INTEGER PRIMARY KEY REFERENCES journal (seq)
) STRICT;
CREATE TABLE journal (
  seq INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  code INTEGER NOT NULL,
  key BLOB NOT NULL UNIQUE CHECK (length(key) = 16),
  debit INTEGER NOT NULL REFERENCES account (id),
  credit INTEGER NOT NULL REFERENCES account (id),
  amount INTEGER NOT NULL CHECK (amount > 0),
  pending INTEGER NOT NULL,
  link INTEGER NOT NULL,
  memo TEXT NOT NULL,
  chain BLOB NOT NULL CHECK (length(chain) = 32)
) STRICT;
CREATE TABLE receipt (
  transcript BLOB NOT NULL CHECK (length(transcript) = 32),
  page INTEGER NOT NULL,
  side INTEGER NOT NULL CHECK (side IN (0, 1)),
  body BLOB NOT NULL CHECK (length(body) = 380),
  state INTEGER NOT NULL CHECK (state IN (0, 1, 2)),
  PRIMARY KEY (transcript, page, side)
) STRICT, WITHOUT ROWID;
CREATE TABLE event (
  seq INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  kind TEXT NOT NULL,
  json TEXT NOT NULL,
  chain BLOB NOT NULL CHECK (length(chain) = 32)
) STRICT;
CREATE TABLE head (
  number INTEGER PRIMARY KEY,
  seq INTEGER NOT NULL,
  chain BLOB NOT NULL CHECK (length(chain) = 32),
  events INTEGER NOT NULL,
  event_chain BLOB NOT NULL CHECK (length(event_chain) = 32),
  at INTEGER NOT NULL,
  key BLOB NOT NULL CHECK (length(key) = 32),
  signature BLOB NOT NULL CHECK (length(signature) = 64)
) STRICT;
"""
_ORDERS = {"journal": "seq", "event": "seq", "head": "number"}
_GUARD = """
CREATE TRIGGER {table}_{verb} BEFORE {action} ON {table}
BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END;
"""
_GROWS = """
CREATE TRIGGER {table}_grows BEFORE INSERT ON {table}
WHEN NEW.{order} <> (SELECT ifnull(max({order}), 0) + 1 FROM {table})
BEGIN SELECT RAISE(ABORT, '{table} grows by one'); END;
"""
# the state of a page moves once, and then the signature of its sink may come
_PAGES = """
CREATE TRIGGER receipt_keeps BEFORE UPDATE ON receipt
WHEN NEW.transcript <> OLD.transcript OR NEW.page <> OLD.page OR NEW.side <> OLD.side
  OR OLD.state <> 0 OR NEW.state = 0 OR substr(NEW.body, 1, 316) <> substr(OLD.body, 1, 316)
  OR (NEW.state = 2 AND NEW.body <> OLD.body)
BEGIN SELECT RAISE(ABORT, 'receipt keeps its pages'); END;
"""


# LEDG-7-01
def _statements() -> tuple[str, ...]:
    """Return every statement that makes an empty file a ledger."""
    guards = [
        _GUARD.format(table=table, verb=verb, action=verb.upper())
        for table in _ORDERS
        for verb in ("update", "delete")
    ]
    guards += [_GROWS.format(table=table, order=order) for table, order in _ORDERS.items()]
    guards += [_PAGES, _GUARD.format(table="receipt", verb="delete", action="DELETE")]
    tables = [f"{text.strip()};" for text in _TABLES.split(";") if text.strip()]
    return tuple(tables) + tuple(text.strip() for text in guards)


STATEMENTS = _statements()
