-- Debits every key by the cost of a request, or none; or refunds a debit. One atomic step of the backend. The decisions are those
-- of src/limit/gcra.rs and src/limit/window.rs, which give the reasons; tests compare them.
--
-- Numbers are doubles, exact up to 2^53. So a time is a pair of seconds and nanoseconds, and products of a window have three
-- parts. ARGV: the operation and the time of the debit to refund (seconds, nanoseconds), then for each key algorithm, cost and
-- three numbers. Reply: the server's time, then for each key admitted, remaining, reset, wait.
local clock = redis.call('TIME')
local s, ns = tonumber(clock[1]), tonumber(clock[2]) * 1000
local floor = math.floor
local SECOND = 1000000000
local SKEW = SECOND
local PART = 1048576

local function numbers(text)
  local found = {}
  for word in string.gmatch(text or '', '%-?%d+') do
    found[#found + 1] = tonumber(word)
  end
  return found
end

local function state_of(key, length)
  local state = numbers(redis.call('GET', key))
  if #state == length then return state end
end

local function store_state(key, milliseconds, ...)
  redis.call('SET', key, string.format(string.sub(string.rep('%.0f ', select('#', ...)), 1, -2), ...), 'PX', milliseconds)
end

-- Product of a count below 2^32 and nanoseconds below 2^60, exact, in three parts.
local function multiply(count, nanos)
  local low = nanos % PART
  local rest = (nanos - low) / PART
  local middle = rest % PART
  local high = (rest - middle) / PART
  low = low * count
  local carry = floor(low / PART)
  middle = middle * count + carry
  low = low - carry * PART
  carry = floor(middle / PART)
  return { high * count + carry, middle - carry * PART, low }
end

local function less_or_equal(one, other)
  for part = 1, 3 do
    if one[part] ~= other[part] then return one[part] < other[part] end
  end
  return true
end

-- Nanoseconds from the start of a time's window, and the time of that start.
local function window_of(at_s, at_ns, ls, ln)
  if ln == 0 then
    local into = at_s % ls
    return into * SECOND + at_ns, at_s - into, 0
  end
  local length = ls * SECOND + ln
  local elapsed, step, left = 0, SECOND % length, at_s
  while left > 0 do
    if left % 2 == 1 then elapsed = (elapsed + step) % length end
    step = (step * 2) % length
    left = floor(left / 2)
  end
  elapsed = (elapsed + at_ns) % length
  local start = at_ns - elapsed
  local seconds = floor(start / SECOND)
  return elapsed, at_s + seconds, start - seconds * SECOND
end

local decide = {}

function decide.g(key, cost, interval, full)
  local usage, corrected = 0, false
  local state = state_of(key, 2)
  if state then
    usage = math.max((state[1] - s) * SECOND + state[2] - ns, 0)
    if usage > full + SKEW then usage, corrected = full, true end
  end
  local after = usage + interval * cost
  local function write(new_usage)
    local nanos = ns + new_usage
    local seconds = floor(nanos / SECOND)
    store_state(key, floor(new_usage / 1000000) + 2, s + seconds, nanos - seconds * SECOND)
  end
  if after <= full then
    return { 1, floor((full - after) / interval), after, 0 }, function() write(after) end
  end
  if corrected then write(full) end
  return { 0, floor(math.max(full - usage, 0) / interval), usage, after - full }
end

-- The counts of a key in the current window, and the window's position.
local function counts(key, ls, ln)
  local length = ls * SECOND + ln
  local elapsed, start_s, start_ns = window_of(s, ns, ls, ln)
  local window = { used = 0, before = 0, elapsed = elapsed, length = length, s = start_s, ns = start_ns, ahead = 0 }
  local state = state_of(key, 4)
  if state then
    local since = (start_s - state[1]) * SECOND + start_ns - state[2]
    if since == 0 then
      window.used, window.before = state[3], state[4]
    elseif since == length then
      -- A denial is stored for this window too, so that it is found after the clock goes back.
      window.before, window.corrected = state[3], true
    elseif since < 0 then
      window.used, window.before = state[3], state[4]
      local ahead = -since - elapsed
      if ahead <= SKEW then
        window.s, window.ns, window.elapsed = state[1], state[2], 0
      else
        window.corrected = true
      end
    end
  end
  window.left = window.length - window.elapsed
  return window
end

local function write_counts(key, window, used, lasts)
  store_state(key, floor(lasts / 1000000) + 1002, window.s, window.ns, used, window.before)
end

function decide.f(key, cost, limit, ls, ln)
  local window = counts(key, ls, ln)
  local free = math.max(limit - window.used, 0)
  if free >= cost then
    return { 1, free - cost, window.left, 0 }, function() write_counts(key, window, window.used + cost, window.left) end
  end
  if window.corrected then write_counts(key, window, window.used, window.left) end
  return { 0, free, window.left, window.left }
end

-- Nanoseconds into a window after which the previous window's weight leaves room for this many requests.
local function earliest(before, room, length)
  if before <= room then return 0 end
  local most = multiply(room, length)
  local left = floor(length * (room / before))
  while left > 0 and not less_or_equal(multiply(before, left), most) do left = left - 1 end
  while less_or_equal(multiply(before, left + 1), most) do left = left + 1 end
  return length - left
end

function decide.s(key, cost, limit, ls, ln)
  local window = counts(key, ls, ln)
  local used, before, length = window.used, window.before, window.length
  local weight = multiply(before, window.left)
  -- Weight of the previous window in whole requests, rounded up.
  local weighted = math.ceil(before * (window.left / length))
  while weighted > 0 and less_or_equal(weight, multiply(weighted - 1, length)) do weighted = weighted - 1 end
  while not less_or_equal(weight, multiply(weighted, length)) do weighted = weighted + 1 end
  local free = limit - used - weighted
  if free >= cost then
    return { 1, free - cost, window.left, 0 },
      function() write_counts(key, window, used + cost, window.left + length) end
  end
  local room = limit - cost
  local wait
  if room < 0 then
    wait = window.left + length
  elseif used <= room then
    wait = math.max(earliest(before, room - used, length) - window.elapsed, 0)
  else
    wait = window.left + earliest(used, room, length)
  end
  if window.corrected then write_counts(key, window, used, window.left + length) end
  return { 0, math.max(free, 0), window.left, math.max(wait, 1) }
end

local refund = {}

function refund.g(key, debited_s, debited_ns, cost, interval)
  local state = state_of(key, 2)
  local refilled = math.max((s - debited_s) * SECOND + ns - debited_ns, 0)
  local amount = interval * cost - refilled
  if not state or amount <= 0 then return end
  local nanos = state[2] - amount
  local seconds = floor(nanos / SECOND)
  redis.call('SET', key, string.format('%.0f %.0f', state[1] + seconds, nanos - seconds * SECOND), 'KEEPTTL')
end

function refund.f(key, debited_s, debited_ns, cost, _, ls, ln)
  local state = state_of(key, 4)
  if not state then return end
  local _, start_s, start_ns = window_of(debited_s, debited_ns, ls, ln)
  local since = (state[1] - start_s) * SECOND + state[2] - start_ns
  if since == 0 then
    state[3] = math.max(state[3] - cost, 0)
  elseif since == ls * SECOND + ln then
    state[4] = math.max(state[4] - cost, 0)
  else
    return
  end
  redis.call('SET', key, string.format('%.0f %.0f %.0f %.0f', unpack(state)), 'KEEPTTL')
end

refund.s = refund.f

local reply = { s, ns }
local writes = {}
local denied = false
for index, key in ipairs(KEYS) do
  local at = 4 + (index - 1) * 5
  local algorithm = ARGV[at]
  local cost, one, two, three =
    tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  if ARGV[1] == 'debit' then
    local decision, write = decide[algorithm](key, cost, one, two, three)
    for part = 1, 4 do reply[#reply + 1] = decision[part] end
    if write then writes[#writes + 1] = write else denied = true end
  else
    refund[algorithm](key, tonumber(ARGV[2]), tonumber(ARGV[3]), cost, one, two, three)
  end
end
if not denied then
  for _, write in ipairs(writes) do write() end
end
return reply
