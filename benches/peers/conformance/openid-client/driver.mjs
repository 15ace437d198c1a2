// openid-client as a client of the conformance kit (docs/conformance.md).
//
// The library makes requests, and keeps nothing. What a user has to write beside it:
//   node driver.mjs             keeps the last token answer, and asks for a new one when `expiresIn()` says 0
//   node driver.mjs --careful   also lets all callers share one request, and sends a call once more after a 401
import { createInterface } from 'node:readline'
import * as client from 'openid-client'

const careful = process.argv.includes('--careful')
const say = (line) => process.stdout.write(JSON.stringify(line) + '\n')

let config, options, api
let grant // asks for tokens
let tokens // the last answer
let pending // a request that is under way, if it is shared

async function configure(given) {
  const auth = given.auth === 'private_key_jwt'
    ? client.PrivateKeyJwt(await privateKey(given.private_key))
    : client.ClientSecretBasic(given.client_secret)
  config = await client.discovery(new URL(given.issuer), given.client_id, undefined, auth, {
    algorithm: 'oauth2',
    execute: [client.allowInsecureRequests], // http on loopback
    timeout: given.timeout_ms / 1000,
  })
  options = given.dpop ? { DPoP: client.getDPoPHandle(config, await client.randomDPoPKeyPair()) } : undefined
  let refreshToken = given.refresh_token
  grant = given.grant === 'client_credentials'
    ? () => client.clientCredentialsGrant(config, undefined, options)
    : async () => {
        const answer = await client.refreshTokenGrant(config, refreshToken, undefined, options)
        refreshToken = answer.refresh_token ?? refreshToken
        return answer
      }
}

function privateKey(pem) {
  const der = Buffer.from(pem.replace(/-----[^-]+-----/g, ''), 'base64')
  return crypto.subtle.importKey('pkcs8', der, { name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign'])
}

async function fetchTokens() {
  if (!careful) return (tokens = await grant())
  pending ??= grant().finally(() => (pending = undefined))
  return (tokens = await pending)
}

const isGood = (answer) => answer !== undefined && answer.expiresIn() !== 0

async function send({ method, url, body }) {
  const request = (answer) =>
    client.fetchProtectedResource(config, answer.access_token, new URL(url), method, body, undefined, options)
  const answer = isGood(tokens) ? tokens : await fetchTokens()
  if (!careful) return request(answer)
  const first = await request(answer).catch((error) => error)
  // A 401 with a challenge is thrown, one without is returned.
  const rejected = first instanceof client.WWWAuthenticateChallengeError || first.status === 401
  if (!rejected) {
    if (first instanceof Error) throw first
    return first
  }
  const codes = (first.cause ?? []).map?.((challenge) => challenge.parameters?.error) ?? []
  if (codes.some((code) => code === 'insufficient_scope' || code === 'use_dpop_nonce')) throw first
  if (tokens === answer) await fetchTokens() // nobody else has replaced it meanwhile
  return request(tokens)
}

async function call(request) {
  try {
    const answer = await send(request)
    await answer.arrayBuffer()
    say({ done: { id: request.id, status: answer.status } })
  } catch (error) {
    // A 401 with a challenge is an error to this library. What a log would show is reported.
    say({ done: { id: request.id, error: described(error) } })
  }
}

function described(error) {
  const parts = [error.code, error.message, error.error_description, error.cause?.message]
  return parts.filter(Boolean).join(': ')
}

for await (const line of createInterface({ input: process.stdin })) {
  const { configure: given, call: request, end } = JSON.parse(line)
  if (given) {
    await configure(given)
    say({ ready: true })
  }
  if (request) call(request) // calls run side by side
  if (end) process.exit(0)
}
