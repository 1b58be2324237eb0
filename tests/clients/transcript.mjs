// Plays calls through npm's `ollama` and prints all that the client shows: transcript.mjs PACKAGES BASE_URL <CALLS
//
// PACKAGES is the folder that has `node_modules`. CALLS and the output are those of transcript.py, so that one reader
// understands both.

import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'

const [packages, base] = process.argv.slice(2)
const { Ollama } = createRequire(resolve(packages, 'package.json'))('ollama')

let reply
const client = new Ollama({
  host: base,
  fetch: async (resource, options) => {
    reply = await fetch(resource, { signal: AbortSignal.timeout(60_000), ...options })
    return reply
  },
})

async function play({ call, arguments: given }) {
  const seen = {}
  reply = undefined
  try {
    const answer = await client[call](given)
    if (given.stream) {
      seen.frames = []
      for await (const frame of answer) seen.frames.push(frame)
    } else {
      seen.answer = answer
    }
  } catch (error) {
    if (!reply || error instanceof TypeError || error instanceof DOMException) throw error // no answer is no transcript
    seen.error = { status: error.status_code ?? null, text: error.error ?? error.message, body: null }
  }
  return seen
}

const transcript = {}
for (const entry of JSON.parse(readFileSync(0, 'utf8'))) {
  const seen = await play(entry)
  seen.status = reply?.status ?? null
  seen.headers = reply ? Object.fromEntries(reply.headers) : {}
  transcript[entry.scene] = seen
}
process.stdout.write(JSON.stringify(transcript))
