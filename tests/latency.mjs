// How long a transaction takes from send to receipt, one after the other, over one kept-alive HTTP connection. Not a test.
//
//   node tests/latency.mjs [--anvil] [--transactions 500] [--rounds 5]
//
// With --anvil the two nodes take turns, so that both see the same machine. HEDDLE_BIN names the binary to measure: build it
// with --release.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    anvil: { type: "boolean", default: false },
    transactions: { type: "string", default: "500" },
    rounds: { type: "string", default: "5" },
    child: { type: "boolean", default: false },
  },
});
const WARM_UP = 50;

/** Measures one node: prints the milliseconds of each transaction as a JSON array. */
async function measure(transactions) {
  const { withNode } = await import("./lib/node.mjs");
  const { RpcConnection } = await import("./lib/rpc.mjs");
  const { accounts } = await import("./lib/accounts.mjs");
  const { sign } = await import("./lib/transactions.mjs");
  const raw = [];
  for (let nonce = 0; nonce < WARM_UP + transactions; nonce++) {
    raw.push(await sign(0, { nonce, to: accounts[1].address, value: 1n }));
  }
  const times = await withNode({}, async (node) => {
    const connection = new RpcConnection(node.url);
    const measured = [];
    for (const transaction of raw) {
      const started = performance.now();
      const hash = await connection.call("eth_sendRawTransaction", [transaction]);
      while ((await connection.call("eth_getTransactionReceipt", [hash])) === null) {
        if (performance.now() - started > 10_000) throw new Error(`${hash} is not mined after 10 s`);
      }
      measured.push(performance.now() - started);
    }
    connection.close();
    return measured.slice(WARM_UP);
  });
  process.stdout.write(JSON.stringify(times));
}

function report(name, times) {
  const sorted = [...times].sort((one, other) => one - other);
  const at = (part) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))].toFixed(2).padStart(8);
  console.log(`${name.padEnd(8)} ${at(0.5)} ${at(0.9)} ${at(0.99)} ${String(sorted.length).padStart(8)}`);
}

if (values.child) {
  await measure(Number(values.transactions));
} else {
  const rounds = Number(values.rounds);
  const each = Math.ceil(Number(values.transactions) / rounds);
  const kinds = values.anvil ? ["heddle", "anvil"] : [process.env.NODE_KIND ?? "heddle"];
  const times = Object.fromEntries(kinds.map((kind) => [kind, []]));
  for (let round = 0; round < rounds; round++) {
    for (const kind of kinds) {
      const { stdout, stderr, status } = spawnSync(
        process.execPath,
        [fileURLToPath(import.meta.url), "--child", "--transactions", String(each)],
        { env: { ...process.env, NODE_KIND: kind }, maxBuffer: 1 << 26, timeout: 120_000 },
      );
      if (status !== 0) {
        process.stderr.write(stderr);
        process.exit(1);
      }
      times[kind].push(...JSON.parse(stdout));
    }
  }
  console.log("ms            p50      p90      p99    count");
  for (const kind of kinds) report(kind, times[kind]);
}
