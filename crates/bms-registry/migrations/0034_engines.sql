-- The engine that runs a deployment's versions, by the name servers know it by. None for this program itself.

ALTER TABLE deployments ADD COLUMN engine TEXT;
