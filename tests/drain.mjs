// How fast a node makes blocks of transactions that wait already, with nothing else to do: what one with more cores for
// receiving them would be held up by. Not a test.
//
//   node tests/drain.mjs [--workload transfers] [--txs 120000] [--gas-limit 210000000]
//
// `heddle load` fills the pool while automine is off; the clock runs from switching it on until the pool is empty. Prints
// transactions a second and, from the node's metrics, microseconds a transaction of each stage. Needs the `script` command
// of util-linux, since `heddle load` shows its progress on terminals only. HEDDLE_BIN names the binary: build it with
// --release.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { freePort, HEDDLE_BIN, startNode, until } from "./lib/node.mjs";
import { repository } from "./lib/places.mjs";

const { values } = parseArgs({
  options: {
    workload: { type: "string", default: "transfers" },
    txs: { type: "string", default: "120000" },
    "gas-limit": { type: "string", default: "210000000" },
  },
});

const WAIT_MS_MAX = 300_000;

/** Sums of all histograms of seconds, by name. */
async function stages(port) {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  return Object.fromEntries([...text.matchAll(/^(\w+)_seconds_sum (\S+)$/gm)].map(([, name, sum]) => [name, Number(sum)]));
}

/** Starts sending, and resolves once the first of the workload's transactions are under way. */
async function startLoad(url) {
  const { workload, txs } = values;
  const command = `${HEDDLE_BIN} load --rpc ${url} --workload ${workload} --txs ${txs} --pending ${txs}`;
  const child = spawn("script", ["-qfc", command, "/dev/null"], { cwd: repository, stdio: ["ignore", "pipe", "inherit"], detached: true });
  await new Promise((resolve, reject) => {
    child.stdout.on("data", (text) => String(text).includes(" in blocks") && resolve());
    // Once it is under way, this changes nothing.
    child.once("close", () => reject(new Error(`${command} ended too early`)));
  });
  return () => process.kill(-child.pid);
}

const datadir = mkdtempSync(join(tmpdir(), "heddle-drain-"));
const metricsPort = await freePort();
const extra = ["--metrics", `127.0.0.1:${metricsPort}`, "--gas-limit", values["gas-limit"]];
const node = await startNode({ datadir, extra });
try {
  const waiting = async () => Number((await node.rpc("txpool_status")).pending);
  const head = async () => Number(await node.rpc("eth_blockNumber"));
  const stopLoad = await startLoad(node.url);
  await node.rpc("evm_setAutomine", false);
  let count = 0;
  const isFull = async () => {
    const former = count;
    count = await waiting();
    return count > 0 && count === former;
  };
  await until(isFull, "the pool to be full", WAIT_MS_MAX, 1500);
  const [before, first] = [await stages(metricsPort), await head()];
  const started = performance.now();
  await node.rpc("evm_setAutomine", true);
  await until(async () => (await waiting()) === 0, "the pool to be empty", WAIT_MS_MAX, 10);
  const seconds = (performance.now() - started) / 1000;
  const after = await stages(metricsPort);
  const blocks = (await head()) - first;
  stopLoad();
  console.log(`${values.workload}: ${count} transactions in ${blocks} blocks and ${seconds.toFixed(2)} s, ${Math.round(count / seconds)} a second`);
  for (const [name, sum] of Object.entries(after).sort()) {
    const us = ((sum - (before[name] ?? 0)) / count) * 1e6;
    if (us >= 0.05) console.log(`  ${name.padEnd(32)} ${us.toFixed(2).padStart(7)} µs a transaction`);
  }
} finally {
  await node.stop();
  rmSync(datadir, { recursive: true, force: true });
}
