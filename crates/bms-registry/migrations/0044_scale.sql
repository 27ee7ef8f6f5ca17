-- How many slots a deployment has, as JSON; what is left out is as usual.
ALTER TABLE deployments ADD COLUMN scale TEXT NOT NULL DEFAULT '{}';
