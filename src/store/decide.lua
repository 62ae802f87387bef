-- Takes from every key what a request costs, or from none; or gives back what was taken. One atomic step of the store.
-- The same decisions as src/limit/gcra.rs and src/limit/window.rs, which say why; a suite holds them against each other.
--
-- Numbers here are doubles: whole up to 2^53. So moments are seconds and nanoseconds apart, and products of a window are
-- made of three parts. ARGV: the operation and the moment that it undoes (seconds, nanoseconds), then for each key
-- algorithm, cost and three numbers. Answer: the store's moment, then for each key admitted, remaining, reset, wait.
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

local function keep(key, milliseconds, ...)
  redis.call('SET', key, string.format(string.sub(string.rep('%.0f ', select('#', ...)), 1, -2), ...), 'PX', milliseconds)
end

-- A count below 2^32 times nanoseconds below 2^60: exact, in parts.
local function times(count, nanos)
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

local function at_most(one, other)
  for part = 1, 3 do
    if one[part] ~= other[part] then return one[part] < other[part] end
  end
  return true
end

-- Nanoseconds that a moment is into its window, and the moment at which that began.
local function place(at_s, at_ns, ls, ln)
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
  local began = at_ns - elapsed
  local seconds = floor(began / SECOND)
  return elapsed, at_s + seconds, began - seconds * SECOND
end

local decide = {}

function decide.g(key, cost, interval, full)
  local owed, mended = 0, false
  local state = state_of(key, 2)
  if state then
    owed = math.max((state[1] - s) * SECOND + state[2] - ns, 0)
    if owed > full + SKEW then owed, mended = full, true end
  end
  local after = owed + interval * cost
  local function write(owes)
    local nanos = ns + owes
    local seconds = floor(nanos / SECOND)
    keep(key, floor(owes / 1000000) + 2, s + seconds, nanos - seconds * SECOND)
  end
  if after <= full then
    return { 1, floor((full - after) / interval), after, 0 }, function() write(after) end
  end
  if mended then write(full) end
  return { 0, floor(math.max(full - owed, 0) / interval), owed, after - full }
end

-- The counts of a key in the window of now, and where that is.
local function counts(key, ls, ln)
  local length = ls * SECOND + ln
  local elapsed, began_s, began_ns = place(s, ns, ls, ln)
  local here = { used = 0, before = 0, elapsed = elapsed, length = length, s = began_s, ns = began_ns, ahead = 0 }
  local state = state_of(key, 4)
  if state then
    local since = (began_s - state[1]) * SECOND + began_ns - state[2]
    if since == 0 then
      here.used, here.before = state[3], state[4]
    elseif since == length then
      -- A refusal is remembered as this window's too: a clock that goes back finds it there.
      here.before, here.mended = state[3], true
    elseif since < 0 then
      here.used, here.before = state[3], state[4]
      local ahead = -since - elapsed
      if ahead <= SKEW then
        here.s, here.ns, here.elapsed = state[1], state[2], 0
      else
        here.mended = true
      end
    end
  end
  here.left = here.length - here.elapsed
  return here
end

local function write_counts(key, here, used, lasts)
  keep(key, floor(lasts / 1000000) + 1002, here.s, here.ns, used, here.before)
end

function decide.f(key, cost, limit, ls, ln)
  local here = counts(key, ls, ln)
  local free = math.max(limit - here.used, 0)
  if free >= cost then
    return { 1, free - cost, here.left, 0 }, function() write_counts(key, here, here.used + cost, here.left) end
  end
  if here.mended then write_counts(key, here, here.used, here.left) end
  return { 0, free, here.left, here.left }
end

-- After how many nanoseconds of a window, at the earliest, the one before lets so many more through.
local function soonest(before, room, length)
  if before <= room then return 0 end
  local most = times(room, length)
  local left = floor(length * (room / before))
  while left > 0 and not at_most(times(before, left), most) do left = left - 1 end
  while at_most(times(before, left + 1), most) do left = left + 1 end
  return length - left
end

function decide.s(key, cost, limit, ls, ln)
  local here = counts(key, ls, ln)
  local used, before, length = here.used, here.before, here.length
  local weight = times(before, here.left)
  -- Whole requests that the window before still stands for, rounded up.
  local stands = math.ceil(before * (here.left / length))
  while stands > 0 and at_most(weight, times(stands - 1, length)) do stands = stands - 1 end
  while not at_most(weight, times(stands, length)) do stands = stands + 1 end
  local free = limit - used - stands
  if free >= cost then
    return { 1, free - cost, here.left, 0 },
      function() write_counts(key, here, used + cost, here.left + length) end
  end
  local room = limit - cost
  local wait
  if room < 0 then
    wait = here.left + length
  elseif used <= room then
    wait = math.max(soonest(before, room - used, length) - here.elapsed, 0)
  else
    wait = here.left + soonest(used, room, length)
  end
  if here.mended then write_counts(key, here, used, here.left + length) end
  return { 0, math.max(free, 0), here.left, math.max(wait, 1) }
end

local give_back = {}

function give_back.g(key, taken_s, taken_ns, cost, interval)
  local state = state_of(key, 2)
  local flowed = math.max((s - taken_s) * SECOND + ns - taken_ns, 0)
  local back = interval * cost - flowed
  if not state or back <= 0 then return end
  local nanos = state[2] - back
  local seconds = floor(nanos / SECOND)
  redis.call('SET', key, string.format('%.0f %.0f', state[1] + seconds, nanos - seconds * SECOND), 'KEEPTTL')
end

function give_back.f(key, taken_s, taken_ns, cost, _, ls, ln)
  local state = state_of(key, 4)
  if not state then return end
  local _, began_s, began_ns = place(taken_s, taken_ns, ls, ln)
  local since = (state[1] - began_s) * SECOND + state[2] - began_ns
  if since == 0 then
    state[3] = math.max(state[3] - cost, 0)
  elseif since == ls * SECOND + ln then
    state[4] = math.max(state[4] - cost, 0)
  else
    return
  end
  redis.call('SET', key, string.format('%.0f %.0f %.0f %.0f', unpack(state)), 'KEEPTTL')
end

give_back.s = give_back.f

local answer = { s, ns }
local writes = {}
local refused = false
for index, key in ipairs(KEYS) do
  local at = 4 + (index - 1) * 5
  local algorithm = ARGV[at]
  local cost, one, two, three =
    tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  if ARGV[1] == 'take' then
    local said, write = decide[algorithm](key, cost, one, two, three)
    for part = 1, 4 do answer[#answer + 1] = said[part] end
    if write then writes[#writes + 1] = write else refused = true end
  else
    give_back[algorithm](key, tonumber(ARGV[2]), tonumber(ARGV[3]), cost, one, two, three)
  end
end
if not refused then
  for _, write in ipairs(writes) do write() end
end
return answer
