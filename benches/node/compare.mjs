// The same load on the service in Rust and on its twin in Node, in turns, with the same auth server and API.
//
//   cargo build --release --manifest-path ../peers/Cargo.toml --bin service   (once)
//   node compare.mjs [--quick]
//
// Needs wrk. Prints Markdown. Everything is on loopback, on free ports, and ends with this program.
import { execFileSync, spawn } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import path from "node:path";
import readline from "node:readline";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
const quick = process.argv.includes("--quick");
const ROUNDS = quick ? 1 : 5;
const SECONDS = quick ? 2 : 4;
const CONNECTIONS = 64;

const target = process.env.CARGO_TARGET_DIR ?? path.join(here, "../peers/target");
const rust = path.join(target, "release/service");
const twin = path.join(here, "twin.mjs");
const services = {
  "Node, naive": (url) => [process.execPath, [twin, "naive", url]],
  "Node, EventEmitter and `once`": (url) => [process.execPath, [twin, "once", url]],
  "actix-web with tokenflight": (url) => [rust, ["token", url]],
  "actix-web without any token": (url) => [rust, ["bare", url]],
};

const running = new Set();
process.on("exit", () => running.forEach((child) => child.kill()));

/** Starts a program that prints its address. */
async function start(command, args) {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] });
  running.add(child);
  child.once("exit", () => running.delete(child));
  for await (const line of readline.createInterface({ input: child.stdout })) return { child, url: line.trim() };
  throw new Error(`${command} ${args.join(" ")} ended before it listened`);
}

function stop({ child }) {
  return new Promise((resolve) => {
    child.once("exit", resolve);
    child.kill("SIGKILL");
  });
}

/** A connection for each: while wrk runs this program stands still, and would not see that one was closed. */
function ask(url, method = "GET") {
  return new Promise((resolve, reject) => {
    const request = http.request(url, { method, agent: false }, async (answer) => {
      resolve(Buffer.concat(await answer.toArray()).toString());
    });
    request.on("error", reject);
    request.end();
  });
}

function load(url, seconds) {
  const text = execFileSync("wrk", ["-t1", `-c${CONNECTIONS}`, `-d${seconds}s`, "-s", path.join(here, "report.lua"), url]);
  return JSON.parse(text.toString().trim().split("\n").at(-1));
}

/** The most resident memory that it had, in MB. */
function memory(pid) {
  const status = fs.readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(status.match(/VmHWM:\s+(\d+)/)[1]) / 1024;
}

async function round(thirdParty, name, lifetime) {
  await ask(`${thirdParty.url}/reset/${lifetime}`, "POST");
  const service = await start(...services[name](thirdParty.url));
  load(service.url, 1); // its code is warm, its connections are there
  const before = JSON.parse(await ask(`${thirdParty.url}/counts`));
  const { requests, seconds, p50, p99, errors } = load(service.url, SECONDS);
  const after = JSON.parse(await ask(`${thirdParty.url}/counts`));
  const megabytes = memory(service.child.pid);
  await stop(service);
  return {
    perSecond: requests / seconds,
    p50,
    p99,
    errors,
    authCalls: after.authCalls - before.authCalls,
    rejected: after.rejected - before.rejected,
    megabytes,
  };
}

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

async function compare(thirdParty, title, lifetime, names) {
  const rounds = Object.fromEntries(names.map((name) => [name, []]));
  for (let number = 1; number <= ROUNDS; number++) {
    for (const name of names) {
      process.stderr.write(`${title}, round ${number} of ${ROUNDS}: ${name}\n`);
      rounds[name].push(await round(thirdParty, name, lifetime));
    }
  }
  const of = (name, figure) => median(rounds[name].map((round) => round[figure]));
  console.log(`\n${title}:\n`);
  console.log("| | requests/s | p50 | p99 | auth calls | 401s | errors | memory at most |");
  console.log("|---|---:|---:|---:|---:|---:|---:|---:|");
  for (const name of names) {
    const cells = [
      Math.round(of(name, "perSecond")).toLocaleString("en"),
      `${of(name, "p50").toFixed(1)} ms`,
      `${of(name, "p99").toFixed(1)} ms`,
      of(name, "authCalls"),
      of(name, "rejected"),
      of(name, "errors"),
      `${of(name, "megabytes").toFixed(0)} MB`,
    ];
    console.log(`| ${name} | ${cells.join(" | ")} |`);
  }
  // Ratios within a round, so that a busy moment of the machine is in both.
  const ratio = (one, other, figure) =>
    median(rounds[one].map((round, index) => round[figure] / rounds[other][index][figure]));
  const ours = "actix-web with tokenflight";
  console.log();
  for (const other of names.filter((name) => name !== ours)) {
    const share = ratio(ours, other, "perSecond");
    console.log(
      other.startsWith("Node")
        ? `- Beside "${other}": ${share.toFixed(2)} times the requests/s, ${ratio(ours, other, "p99").toFixed(2)} times the p99.`
        : `- Beside "${other}": ${(share * 100).toFixed(1)} % of the requests/s.`,
    );
  }
}

const thirdParty = await start(rust, ["third-party"]);
console.log(
  `${CONNECTIONS} connections by wrk, ${ROUNDS} round${ROUNDS === 1 ? "" : "s"} of ${SECONDS} s in turns, medians; ` +
    "one thread serves, in each; a call to the auth server takes 100 ms.",
);
const all = Object.keys(services);
await compare(thirdParty, "The token never expires", 3600, all);
await compare(thirdParty, "The token expires every second", 1, all.filter((name) => !name.includes("without")));
await stop(thirdParty);
