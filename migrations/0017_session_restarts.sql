-- A session may end at one client and begin there anew with the same sid, for it goes on at its IdP: whoever was logged out at one
-- relying party comes back to it.

-- When it was last said to begin, where it had been said before to begin earlier. What a logout of before then ended was the first
-- visit.
alter table sessions add column restarted_at timestamptz;
