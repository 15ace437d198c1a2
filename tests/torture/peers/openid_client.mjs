// What a user of openid-client writes: the tokens stand in a file, an expired one is refreshed, and the new ones are
// written to the file. Orders come on standard input, as `client.rs` has them; here each token counts as expired.
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import * as client from 'openid-client';

const { TORTURE_URL: url, TORTURE_VAULT: file } = process.env;
const server = { issuer: new URL(url).origin, token_endpoint: url };
const config = new client.Configuration(
  server,
  'rotating',
  'rotating-secret',
  client.ClientSecretBasic('rotating-secret'),
);
client.allowInsecureRequests(config);

const read = () => JSON.parse(readFileSync(file, 'utf8'));
let last = '';

// A reader never finds half of it.
function write(tokens) {
  const temporary = `${file}.${process.pid}`;
  writeFileSync(temporary, JSON.stringify(tokens), { mode: 0o600 });
  renameSync(temporary, file);
}

async function accessToken() {
  const stored = read();
  if (stored.access_token && stored.access_token !== last) {
    // Another process, or an earlier life of this one, has refreshed.
    return stored.access_token;
  }
  const answer = await client.refreshTokenGrant(config, stored.refresh_token);
  write({ refresh_token: answer.refresh_token ?? stored.refresh_token, access_token: answer.access_token });
  return answer.access_token;
}

const pause = (time) => new Promise((resolve) => { setTimeout(resolve, time); });

async function rotate(time) {
  let end = Infinity;
  do {
    try {
      last = await accessToken();
      end = Math.min(end, Date.now() + time);
      await pause(time && 200 * Math.random());
      console.log('token');
    } catch (error) {
      if (error.error === 'invalid_grant') {
        console.log('needs_login');
        return;
      }
      console.log(`failed ${error.code ?? error.message}`);
      await pause(20);
    }
  } while (Date.now() < end);
}

for await (const line of createInterface({ input: process.stdin })) {
  await rotate(Number(line.slice('go '.length)));
  console.log('rest');
}
