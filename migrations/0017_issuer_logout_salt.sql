-- The id of a subject's part in a logout of everyone is a hash. What it is mixed with is nobody's to know: of an id that is left once
-- its subject was forgotten, no guessed name can be tried out, and nobody can take it with an event of their own before.
alter table issuer_logouts add column salt uuid not null default gen_random_uuid();
