-- Quotas of keys by model, and shares of what is left of a quota.

-- What the process may count up to before it writes again: nobody else may use that. Less than what it counted where it holds nothing.
ALTER TABLE api_key_uses ADD COLUMN requests_held INTEGER NOT NULL DEFAULT 0;
ALTER TABLE api_key_uses ADD COLUMN tokens_held   INTEGER NOT NULL DEFAULT 0;

-- Of what stands in api_key_uses, what was of a model that the key has limits of its own for. A table for itself, so that servers of
-- the version before go on counting while they are replaced one after the other.
CREATE TABLE api_key_model_uses (
    day           INTEGER NOT NULL,
    key_id        TEXT    NOT NULL REFERENCES api_keys (id),
    model         TEXT    NOT NULL,
    replica       TEXT    NOT NULL,
    requests      INTEGER NOT NULL,
    tokens        INTEGER NOT NULL,
    requests_held INTEGER NOT NULL,
    tokens_held   INTEGER NOT NULL,
    PRIMARY KEY (day, key_id, model, replica)
) STRICT;

-- Both; the model is empty for all models together.
CREATE VIEW api_key_counts AS
    SELECT day, key_id, '' AS model, replica, requests, tokens, requests_held, tokens_held FROM api_key_uses
    UNION ALL
    SELECT day, key_id, model, replica, requests, tokens, requests_held, tokens_held FROM api_key_model_uses;
