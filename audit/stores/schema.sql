-- The tables of a ledger in PostgreSQL. To be run by their owner, who is not the role that the
-- proxy uses: that one may INSERT and SELECT, and nothing else (docs/record-format.md).
CREATE SCHEMA IF NOT EXISTS ringfence;

-- One row for each record: the bytes of its line, without the line feed.
CREATE TABLE IF NOT EXISTS ringfence.line (
  chain text NOT NULL,
  seq bigint NOT NULL CHECK (seq >= 0),
  line bytea NOT NULL,
  PRIMARY KEY (chain, seq)
);
CREATE INDEX IF NOT EXISTS line_chains ON ringfence.line (chain) WHERE seq = 0;

-- Every checkpoint ever signed. The hint is the tree's right edge: checked before use, no evidence.
CREATE TABLE IF NOT EXISTS ringfence.head (
  index bigint PRIMARY KEY CHECK (index >= 0),
  note bytea NOT NULL,
  hint bytea NOT NULL
);

-- The public keys, each introduced by the one before.
CREATE TABLE IF NOT EXISTS ringfence.epoch (
  number bigint PRIMARY KEY CHECK (number >= 0),
  note bytea NOT NULL
);

-- Chains that are closed and sealed to their end: spares later starts the reading, no evidence.
CREATE TABLE IF NOT EXISTS ringfence.finished (
  chain text PRIMARY KEY
);

-- Private keys, encrypted under a secret that never enters the database. The one table from which
-- the proxy deletes: yesterday's signing key is erased.
CREATE TABLE IF NOT EXISTS ringfence.secret (
  name text PRIMARY KEY,
  sealed bytea NOT NULL
);

REVOKE ALL ON SCHEMA ringfence FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA ringfence FROM PUBLIC;
