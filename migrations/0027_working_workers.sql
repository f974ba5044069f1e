alter table workers
  -- False while the worker may make no attempts, because its clock differs from PostgreSQL's. It has no share of the limits of
  -- relying parties then.
  add column working boolean not null default true;
