-- Asks for the page, or with a "%d" in the path for one address after the other, and checks every answer.
-- wrk runs this once a thread; `done` adds up what the threads noted, and writes one line.
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  path, name, value, status, length, from = args[1], args[2], args[3], tonumber(args[4]), tonumber(args[5]), tonumber(args[6])
  wrong, sent = 0, from
  if name ~= "" then wrk.headers[name] = value end
  etag = name == "If-None-Match" and value or ""
  always = wrk.format("GET", path)
  counts = path:find("NUMBER", 1, true) ~= nil
end

function request()
  if not counts then return always end
  sent = sent + 1
  return wrk.format("GET", (path:gsub("NUMBER", string.format("%06d", sent))))
end

local function tag(headers)
  for name, value in pairs(headers) do
    if name:lower() == "etag" then return value end
  end
  return ""
end

function response(got, headers, body)
  if got ~= status or #body ~= length or (etag ~= "" and tag(headers) ~= etag) then
    if wrong == 0 then io.write(string.format("first wrong: %d with %d bytes, not %d with %d\n", got, #body, status, length)) end
    wrong = wrong + 1
  end
end

function done(summary, latency)
  local bad = 0
  for _, thread in ipairs(threads) do bad = bad + thread:get("wrong") end
  local errors = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format("FOUND %d %d %d %f %f\n", summary.requests, bad, errors, latency:percentile(50), latency:percentile(99)))
end
