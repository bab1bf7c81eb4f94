// How many requests a second a node answers, asked by wrk over 8 connections: eth_getBalance, and eth_call of an ERC-20's
// balanceOf. Not a test.
//
//   node tests/rpc-speed.mjs [--anvil] [--seconds 5] [--rounds 2] [--load 2000]
//
// With --anvil the two nodes take turns, so that both see the same machine. With --load so many transfers a second are
// sent and mined meanwhile, in a block every second. Needs wrk; HEDDLE_BIN names the binary to measure: build it with
// --release.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Worker, isMainThread, workerData } from "node:worker_threads";
import { accounts, CHAIN_ID } from "./lib/accounts.mjs";
import { startNode, until } from "./lib/node.mjs";
import { repository } from "./lib/places.mjs";
import { RpcConnection } from "./lib/rpc.mjs";
import { run } from "./lib/run.mjs";
import { sign } from "./lib/transactions.mjs";

const CONNECTIONS = 8;
/** Transactions sent in one request of the load. */
const BATCH = 100;

/** In a thread of its own: sends signed transactions at an even pace until they are all sent. */
async function sendLoad({ url, batches, everyMs }) {
  const connection = new RpcConnection(url);
  const started = performance.now();
  for (const [index, body] of batches.entries()) {
    await sleep(Math.max(0, started + index * everyMs - performance.now()));
    await connection.send(body);
  }
  connection.close();
}

/** Bodies of batches that send `count` transfers from all accounts. */
async function signLoad(node, count) {
  const from = await Promise.all(accounts.map(({ address }) => node.rpc("eth_getTransactionCount", address, "latest")));
  const nonces = from.map(Number);
  const raw = [];
  for (let index = 0; index < count; index++) {
    const sender = index % accounts.length;
    raw.push(await sign(sender, { nonce: nonces[sender]++, to: `0x${(0xabc000 + index).toString(16).padStart(40, "0")}`, value: 1n }));
  }
  const batches = [];
  for (let start = 0; start < raw.length; start += BATCH) {
    const calls = raw.slice(start, start + BATCH).map((tx, id) => ({ jsonrpc: "2.0", id, method: "eth_sendRawTransaction", params: [tx] }));
    batches.push(JSON.stringify(calls));
  }
  return batches;
}

async function deployToken(node) {
  const { bytecode, selectors } = JSON.parse(readFileSync(join(repository, "contracts/build/TestToken.json"), "utf8"));
  const code = bytecode.startsWith("0x") ? bytecode : `0x${bytecode}`;
  const send = async (transaction) => {
    const hash = await node.rpc("eth_sendTransaction", { from: accounts[0].address, ...transaction });
    return until(() => node.rpc("eth_getTransactionReceipt", hash), `the receipt of ${hash}`);
  };
  const word = (value) => value.replace("0x", "").padStart(64, "0");
  const { contractAddress } = await send({ data: code });
  await send({ to: contractAddress, data: `${selectors["mint(address,uint256)"]}${word(accounts[1].address)}${word("2a")}` });
  const call = { to: contractAddress, data: `${selectors["balanceOf(address)"]}${word(accounts[1].address)}` };
  const balance = await node.rpc("eth_call", call, "latest");
  if (BigInt(balance) !== 42n) throw new Error(`balanceOf is ${balance}`);
  return call;
}

/** wrk's answers a second and 99th percentile in milliseconds. */
async function wrk(url, method, params, seconds) {
  const folder = mkdtempSync(join(tmpdir(), "heddle-wrk-"));
  try {
    const script = join(folder, "post.lua");
    const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
    writeFileSync(script, `wrk.method = "POST"\nwrk.headers["content-type"] = "application/json"\nwrk.body = '${body}'\n`);
    const output = await run("wrk", ["-t", "1", "-c", String(CONNECTIONS), "-d", `${seconds}s`, "--latency", "-s", script, url]);
    const rate = Number(/Requests\/sec:\s+([\d.]+)/.exec(output)[1]);
    const [, p99, unit] = /99%\s+([\d.]+)(us|ms|s)/.exec(output);
    if (/Non-2xx/.test(output)) throw new Error(output);
    return { rate, p99: Number(p99) * { us: 0.001, ms: 1, s: 1_000 }[unit] };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function measure(kind, seconds, load) {
  const node = await startNode({ kind });
  try {
    const call = await deployToken(node);
    const measured = {};
    for (const [method, params] of [
      ["eth_getBalance", [accounts[1].address, "latest"]],
      ["eth_call", [call, "latest"]],
    ]) {
      let worker;
      if (load) {
        await node.rpc("evm_setIntervalMining", 1);
        const batches = await signLoad(node, load * (seconds + 1));
        const everyMs = (1_000 * BATCH) / load;
        worker = new Worker(new URL(import.meta.url), { workerData: { url: node.url, batches, everyMs } });
        await sleep(500);
      }
      measured[method] = await wrk(node.url, method, params, seconds);
      if (worker) await new Promise((resolve) => worker.once("exit", resolve));
    }
    return measured;
  } finally {
    await node.stop();
  }
}

const median = (values) => [...values].sort((one, other) => one - other)[Math.floor(values.length / 2)];

if (!isMainThread) {
  await sendLoad(workerData);
} else {
  const { values } = parseArgs({
    options: {
      anvil: { type: "boolean", default: false },
      seconds: { type: "string", default: "5" },
      rounds: { type: "string", default: "2" },
      load: { type: "string", default: "0" },
    },
  });
  if (spawnSync("wrk", ["-v"]).error) throw new Error("wrk is not installed");
  const kinds = values.anvil ? ["heddle", "anvil"] : [process.env.NODE_KIND ?? "heddle"];
  const all = {};
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const kind of kinds) {
      const measured = await measure(kind, Number(values.seconds), Number(values.load));
      for (const [method, one] of Object.entries(measured)) ((all[method] ??= {})[kind] ??= []).push(one);
    }
  }
  console.log(`${"".padEnd(24)} answers/s   p99 ms`);
  for (const [method, byKind] of Object.entries(all)) {
    for (const [kind, measured] of Object.entries(byKind)) {
      const [rate, p99] = ["rate", "p99"].map((what) => median(measured.map((one) => one[what])));
      console.log(`${method.padEnd(16)}${kind.padEnd(8)} ${rate.toFixed(0).padStart(9)} ${p99.toFixed(2).padStart(8)}`);
    }
  }
}
