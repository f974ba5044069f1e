-- Asks `curfew gate` whether a request may pass. haproxy.cfg beside this file shows its use.
--
-- It sets txn.curfew_status to the status of the gate: 200 means that the request may pass. Without an answer the status is 503.
-- A 401 sets txn.curfew_challenge. A 200 sets txn.curfew_sub, txn.curfew_sid and txn.curfew_scope, if the token has these claims.

local TIMEOUT_MS = 5000
local FIELDS = { ["x-auth-sub"] = "txn.curfew_sub", ["x-auth-sid"] = "txn.curfew_sid", ["x-auth-scope"] = "txn.curfew_scope" }

local function first(headers, name)
  local values = headers and headers[name]
  if type(values) == "table" then return values[0] or values[1] end
  return values
end

core.register_action("curfew_gate", { "http-req" }, function(txn, url)
  txn:set_var("txn.curfew_status", "503")
  -- All values: the gate refuses a request with two.
  local authorization = {}
  for _, value in pairs(txn.http:req_get_headers()["authorization"] or {}) do
    authorization[#authorization + 1] = value
  end
  local headers = {}
  if #authorization > 0 then headers["authorization"] = authorization end
  local ok, response = pcall(function()
    return core.httpclient():get({ url = url, headers = headers, timeout = TIMEOUT_MS })
  end)
  if not ok or response == nil or response.status == nil or response.status == 0 then return end
  if response.status == 200 then
    for name, variable in pairs(FIELDS) do
      local value = first(response.headers, name)
      if value then txn:set_var(variable, value) end
    end
  elseif response.status == 401 or response.status == 400 then
    txn:set_var("txn.curfew_challenge", first(response.headers, "www-authenticate") or "Bearer")
  end
  txn:set_var("txn.curfew_status", tostring(response.status))
end, 1)
