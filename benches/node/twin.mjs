// The service in Node: each request calls the API with a token, fetched from the auth server when it has expired.
//
//   node twin.mjs naive URL     each request that finds no good token fetches one
//   node twin.mjs once URL      the first of them fetches; the others wait for `done`, listening by `once`
//
// Plain node:http, one process, connections to the third party kept alive.
import { EventEmitter } from "node:events";
import http from "node:http";

const [strategy, thirdParty] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: true });

function request(path, options = {}, body = undefined) {
  return new Promise((resolve, reject) => {
    const sent = http.request(thirdParty + path, { agent, ...options }, (answer) => {
      const chunks = [];
      answer.on("data", (chunk) => chunks.push(chunk));
      answer.on("end", () => resolve({ status: answer.statusCode, text: Buffer.concat(chunks).toString() }));
      answer.on("error", reject);
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

let token; // { secret, ends }
const fresh = () => token && Date.now() < token.ends;

async function fetchToken() {
  const answer = await request(
    "/token",
    { method: "POST", headers: { "Content-Type": "application/x-www-form-urlencoded" } },
    "grant_type=client_credentials&client_id=service&client_secret=s3cret",
  );
  if (answer.status !== 200) throw new Error(`the auth server answered ${answer.status}`);
  const { access_token: secret, expires_in: lifetime } = JSON.parse(answer.text);
  token = { secret, ends: Date.now() + lifetime * 1000 };
  return token;
}

async function naive() {
  return fresh() ? token : fetchToken();
}

let refreshing = false;
const events = new EventEmitter();
events.setMaxListeners(0);

function once() {
  if (fresh()) return Promise.resolve(token);
  const waiting = new Promise((resolve, reject) => {
    events.once("done", (error, token) => (error ? reject(error) : resolve(token)));
  });
  if (!refreshing) {
    refreshing = true;
    fetchToken().then(
      (token) => finish(undefined, token),
      (error) => finish(error),
    );
  }
  return waiting;
}

function finish(error, token) {
  refreshing = false;
  events.emit("done", error, token);
}

const current = { naive, once }[strategy];
if (!current || !thirdParty) throw new Error("node twin.mjs naive|once URL");

const server = http.createServer(async (_, response) => {
  try {
    // Once more after a 401, with the next token, as its twin does.
    for (const replay of [false, true]) {
      const used = await current();
      const answer = await request("/api", { headers: { Authorization: `Bearer ${used.secret}` } });
      if (answer.status === 200) return response.end(answer.text);
      if (answer.status !== 401 || replay) break;
      if (token === used) token = undefined;
    }
    response.writeHead(502).end();
  } catch {
    response.writeHead(503).end();
  }
});
server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
