'use strict'

/** The scripts that check the token and write, in one atomic step of the server. */

const { createHash } = require('node:crypto')

/** @typedef {{ readonly text: string, readonly sha: string }} Script */

/**
 * The fence, which runs before the caller's part. It reads everything before it writes anything, so that
 * nothing is written for a stale token.
 *
 * Tokens stay strings: of two decimals without leading zeros the longer one is higher, and of equally long
 * ones the one that sorts later. Lua's numbers are doubles, which would merge tokens above 2^53.
 *
 * The owner has a key of its own, because earlier versions accept nothing but a token in that of the fence.
 * They raise the token only, so the owner's value begins with the token that it belongs to, and counts only
 * beside that one.
 */
const FENCE = `\
-- KEYS: n fences, n owners of them unless the owner is '', then the caller's
-- ARGV: n, token, the fences' TTL in ms or '', the call's mark, the owner's hash or '', then the caller's
-- ⇒ {'done' .. mark, what the caller's part returned} | {'stale' .. mark, i, the stored token, which is equal if it is
--   another owner's} | {'odd' .. mark, i of a key} | {'failed' .. mark, message} | an error of the caller's part
local n, token, ttl, mark, owner = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local owned = token .. ':' .. owner
for i = 1, n do
  local stored = redis.pcall('GET', KEYS[i])
  if stored then
    if type(stored) == 'table' and not string.find(stored.err, '^WRONGTYPE') then return stored end
    if type(stored) == 'table' or not string.find(stored, '^[1-9]%d*$') then return {'odd' .. mark, i} end
    if #stored > #token or (#stored == #token and stored > token) then return {'stale' .. mark, i, stored} end
    if stored == token and owner ~= '' then
      local other = redis.pcall('GET', KEYS[n + i])
      if type(other) == 'table' and not string.find(other.err, '^WRONGTYPE') then return other end
      if type(other) == 'table' then return {'odd' .. mark, n + i} end
      if other and other ~= owned and string.sub(other, 1, #token + 1) == token .. ':' then
        return {'stale' .. mark, i, stored}
      end
    end
  end
end
local function set(key, value)
  return ttl == '' and redis.pcall('SET', key, value) or redis.pcall('SET', key, value, 'PX', ttl)
end
for i = 1, n do
  local reply = set(KEYS[i], token)
  if not reply.err and owner ~= '' then reply = set(KEYS[n + i], owned) end
  if reply.err then return reply end
end
local function from(list, first)
  local rest = {}
  for i = first, #list do rest[#rest + 1] = list[i] end
  return rest
end
local keys, args = from(KEYS, owner == '' and n + 1 or 2 * n + 1), from(ARGV, 6)
`

/** Returns the result. An error of the caller's part remains one. */
const RESULT = `
if type(result) == 'table' and result.err then return result end
return {'done' .. mark, result}
`

/**
 * @param {string} text
 * @returns {Script}
 */
function plain(text) {
  return { text, sha: createHash('sha1').update(text).digest('hex') }
}

/** @param {string} body Lua that sets `result` from `keys`, `args` and `token` */
function fenced(body) {
  return plain(`${FENCE}${body}${RESULT}`)
}

/** Returns the stored token, 'none', or 'odd' if it is something else; and the mark, which is ARGV[1]. */
const READ = plain(`\
local stored = redis.pcall('GET', KEYS[1])
if not stored then return 'none' .. ARGV[1] end
if type(stored) == 'table' and not string.find(stored.err, '^WRONGTYPE') then return stored end
if type(stored) == 'table' or not string.find(stored, '^[1-9]%d*$') then return 'odd' .. ARGV[1] end
return stored .. ARGV[1]`)

/** Only the fence. */
const ADVANCE = fenced('local result = 1')

/** One command: its name, then its keys, then the other arguments. */
const COMMAND = fenced(`\
local command = {args[1]}
for i = 1, #keys do command[#command + 1] = keys[i] end
for i = 2, #args do command[#command + 1] = args[i] end
local result = redis.pcall(unpack(command))`)

/**
 * The caller's own script; its KEYS and ARGV do not contain those of the fence. It is on lines of its own,
 * because it may end with a comment. Its errors are returned as 'failed', to distinguish them
 * from the server's, which say that nothing was written.
 * @param {string} body
 */
function custom(body) {
  return fenced(`\
local passed, result = pcall(function(KEYS, ARGV, TOKEN)
${body}
end, keys, args, token)
if not passed and type(result) ~= 'table' then return {'failed' .. mark, tostring(result)} end
if type(result) == 'table' and result.err then return {'failed' .. mark, tostring(result.err)} end`)
}

module.exports = { ADVANCE, COMMAND, READ, custom }
