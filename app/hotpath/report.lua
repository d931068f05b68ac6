-- For wrk: POST, each with an Idempotency-Key of its own if an argument says how they begin, and the results as one line of JSON on standard error.
wrk.method = "POST"
function init(args)
  if args[1] then
    local number = 0
    request = function()
      number = number + 1
      return wrk.format(nil, nil, {["Idempotency-Key"] = string.format("%s-%012x", args[1], number)})
    end
  end
end
function done(summary, latency, requests)
  local errors = summary.errors
  io.stderr:write(string.format(
    '{"requests":%d,"seconds":%.6f,"failed":%d,"p50_ms":%.3f,"p99_ms":%.3f,"max_ms":%.3f}\n',
    summary.requests, summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3))
end
