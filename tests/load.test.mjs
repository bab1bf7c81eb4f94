// `heddle load`: every workload, every way to send, against Heddle and Anvil; and what it says of a node that lies.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, request } from "node:http";
import { before, test } from "node:test";
import { HEDDLE_BIN, nodeForThisFile, startNode, withNode } from "./lib/node.mjs";
import { tests } from "./lib/places.mjs";

const WORKLOADS = [
  "transfers",
  "erc20",
  "uniswap-v2",
  "mixed-defi",
  "nft-mint",
  "dao-vote",
  "lending",
  "hybrid",
  "chain-erc20",
  "chain-uniswap",
  "uniswap",
];
const TXS = 300;
// Whatever NODE_KIND says: what is under test is the client, and Anvil has its own tests here.
const node = await nodeForThisFile({ kind: "heddle" });

/** Runs `heddle load` to its end; resolves with its exit code, what it printed, and the report if there is one. */
async function load(url, workload, ...flags) {
  const args = ["load", "--rpc", url, "--workload", workload, "--json", "--node-modules", `${tests}/node_modules`];
  if (!flags.includes("--txs")) args.push("--txs", String(TXS));
  if (!flags.includes("--accounts")) args.push("--accounts", "60");
  if (!flags.includes("--timeout")) args.push("--timeout", "20");
  const child = spawn(HEDDLE_BIN, [...args, ...flags], { stdio: ["ignore", "pipe", "pipe"] });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (chunk) => (stdout += chunk));
  child.stderr.on("data", (chunk) => (stderr += chunk));
  const [code] = await once(child, "close");
  return { code, stderr, report: stdout ? JSON.parse(stdout) : undefined };
}

/** A run in which all is as it should be. */
async function passes(url, workload, ...flags) {
  const { code, stderr, report } = await load(url, workload, ...flags);
  assert.equal(code, 0, stderr);
  assert.equal(report.workload, workload);
  assert.equal(report.txs, TXS);
  assert.equal(report.included, TXS);
  assert.equal(report.failed, 0);
  assert.equal(report.expected_failures, workload === "mixed-defi" ? TXS / 10 : 0);
  assert.equal(report.verified, true);
  assert.ok(report.checks > 60 && report.blocks > 0, JSON.stringify(report));
  assert.ok(report.seconds >= report.submit_seconds * 0.5 && report.tps > 0, JSON.stringify(report));
  assert.ok(report.p50_ms > 0 && report.p50_ms <= report.p99_ms && report.p99_ms <= report.max_ms);
  return report;
}

for (const workload of WORKLOADS) {
  test(`${workload} over batched HTTP`, () => passes(node.url, workload));
}

for (const [way, url, flags] of [
  ["single HTTP requests", () => node.url, ["--batch", "1"]],
  ["batches on WebSockets", () => node.wsUrl, []],
  ["single requests on WebSockets", () => node.wsUrl, ["--batch", "1", "--connections", "2"]],
  ["HTTP at a fixed rate", () => node.url, ["--rate", "400"]],
  ["WebSockets at a fixed rate", () => node.wsUrl, ["--rate", "400"]],
  ["a WebSocket with one request at a time", () => node.wsUrl, ["--in-flight", "1", "--batch", "7"]],
]) {
  for (const workload of ["transfers", "mixed-defi"]) {
    test(`${workload} over ${way}`, () => passes(url(), workload, ...flags));
  }
}

test("a fixed rate is kept", async () => {
  const { seconds } = await passes(node.url, "transfers", "--rate", "200");
  assert.ok(seconds > 1.45 && seconds < 4, `${TXS} at 200 a second took ${seconds} s`);
});

test("the chain has what the report says", async () => {
  const before = Number(await node.rpc("eth_blockNumber"));
  const report = await passes(node.url, "erc20");
  const head = Number(await node.rpc("eth_blockNumber"));
  let gas = 0;
  let transfers = 0;
  for (let number = before + 1; number <= head; number++) {
    for (const receipt of await node.rpc("eth_getBlockReceipts", `0x${number.toString(16)}`)) {
      // transfer(address,uint256), which nothing in the set-up calls.
      const transaction = await node.rpc("eth_getTransactionByHash", receipt.transactionHash);
      if (!transaction.input.startsWith("0xa9059cbb")) continue;
      transfers += 1;
      gas += Number(receipt.gasUsed);
    }
  }
  assert.equal(transfers, TXS);
  assert.equal(gas, report.gas);
});

test("two runs at once, paid by different accounts, do not disturb each other", async () => {
  const key = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
  await Promise.all([
    passes(node.url, "transfers", "--rate", "300"),
    passes(node.url, "erc20", "--rate", "300", "--private-key", key),
  ]);
});

test("blocks at intervals are waited for", () =>
  withNode({ kind: "heddle", blockTime: 0.2 }, async (interval) => {
    const report = await passes(interval.url, "erc20");
    assert.ok(report.max_ms > 20, JSON.stringify(report));
  }));

/**
 * As `passes`. Anvil now and then forgets a transaction that it has taken (1.7.1); that this is noticed is right, and says
 * nothing about the rest of the run, which is then made again with other accounts.
 */
async function passesAgainstAnvil(url, workload) {
  const RUNS_MAX = 4;
  for (let run = 1; ; run += 1) {
    try {
      return await passes(url, workload, "--timeout", "8");
    } catch (error) {
      if (run === RUNS_MAX || !/is in no block/.test(error.message)) throw error;
    }
  }
}

for (const workload of WORKLOADS) {
  test(`${workload} against Anvil`, async () => passesAgainstAnvil((await anvil).url, workload));
}
test("transfers against Anvil over WebSocket", async () => passesAgainstAnvil((await anvil).wsUrl, "transfers"));

let anvil;
before(() => {
  // Otherwise it writes a state of some megabytes to the disk for each of hundreds of blocks.
  anvil = startNode({ kind: "anvil", extra: ["--prune-history", "20"] });
  node.beforeStop(async () => (await anvil).stop());
});

/** Passes requests on, and what comes back through `change`, which gets the calls and their answers. */
async function lyingProxy(target, { calls: changeCalls = (calls) => calls, answers: changeAnswers = (_, answers) => answers }) {
  const server = createServer(async (incoming, outgoing) => {
    // No WebSocket here.
    if (incoming.method !== "POST") return outgoing.writeHead(405).end();
    const chunks = [];
    for await (const chunk of incoming) chunks.push(chunk);
    const parsed = JSON.parse(Buffer.concat(chunks).toString());
    const calls = [parsed].flat();
    const passed = changeCalls(calls);
    const answers = new Map();
    if (passed.length > 0) {
      const body = JSON.stringify(passed);
      const response = await new Promise((resolve, reject) => {
        const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
        request(target, { method: "POST", headers }, resolve).once("error", reject).end(body);
      });
      const parts = [];
      for await (const part of response) parts.push(part);
      for (const answer of JSON.parse(Buffer.concat(parts).toString())) answers.set(answer.id, answer);
    }
    const all = changeAnswers(calls, calls.map(({ id }) => answers.get(id) ?? { jsonrpc: "2.0", id, result: `0x${"11".repeat(32)}` }));
    outgoing.setHeader("content-type", "application/json").end(JSON.stringify(Array.isArray(parsed) ? all : all[0]));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

async function throughProxy(changes, body) {
  const proxy = await lyingProxy(node.url, changes);
  try {
    return await body(proxy.url);
  } finally {
    proxy.close();
  }
}

/** True for whatever sends a transaction. `transfers` sends one for the funding first. */
const sends = ({ method }) => method === "eth_sendRawTransaction";

test("a transaction that the node loses is missed", () => {
  let count = 0;
  // The first is the funding; of the workload the last of one account's is lost, so that nothing waits for it.
  const calls = (batch) => batch.filter((call) => !sends(call) || ++count !== 1 + TXS);
  return throughProxy({ calls }, async (url) => {
    const { code, report, stderr } = await load(url, "transfers", "--connections", "1", "--timeout", "2");
    assert.equal(code, 1);
    assert.equal(report?.failed, 1, stderr);
    assert.equal(report.included, TXS - 1);
    assert.equal(report.verified, false);
    assert.match(stderr, /is in no block/);
  });
});

test("a transaction that fails on the node is a failure", () => {
  let failing;
  const answers = (calls, answers) => {
    for (const [index, { method }] of calls.entries()) {
      if (method !== "eth_getBlockReceipts") continue;
      const receipts = answers[index].result;
      // Of the blocks of the workload: transfers have exactly this gas.
      const receipt = receipts.find(({ gasUsed }) => gasUsed === "0x5208");
      if (receipt && !failing) failing = receipt.transactionHash;
      for (const one of receipts) if (one.transactionHash === failing) one.status = "0x0";
    }
    return answers;
  };
  return throughProxy({ answers }, async (url) => {
    const { code, report, stderr } = await load(url, "transfers");
    assert.equal(code, 1);
    assert.equal(report.failed, 1);
    assert.equal(report.included, TXS);
    assert.ok(stderr.includes(`transaction ${failing}`), stderr);
    // It failed, by this story, but its wei has moved.
    assert.match(stderr, /wei, not/);
  });
});

test("a token balance that is off by one is noticed", () => {
  let asked = 0;
  const answers = (calls, answers) => {
    for (const [index, { method }] of calls.entries()) {
      // 120 holders, before and after.
      if (method !== "eth_call" || ++asked !== 200) continue;
      answers[index].result = `0x${(BigInt(answers[index].result) + 1n).toString(16).padStart(64, "0")}`;
    }
    return answers;
  };
  return throughProxy({ answers }, async (url) => {
    const { code, report, stderr } = await load(url, "erc20");
    assert.equal(code, 1);
    assert.equal(asked, 240);
    assert.deepEqual([report.failed, report.verified, report.faults.length], [0, false, 1]);
    assert.match(stderr, /balance of token .* went from/);
  });
});

test("a transaction that is told twice is noticed", () => {
  let doubled = false;
  const answers = (calls, answers) => {
    for (const [index, { method }] of calls.entries()) {
      if (method !== "eth_getBlockReceipts" || doubled) continue;
      const receipts = answers[index].result;
      const receipt = receipts.find(({ gasUsed }) => gasUsed === "0x5208");
      if (!receipt) continue;
      receipts.push(receipt);
      doubled = true;
    }
    return answers;
  };
  return throughProxy({ answers }, async (url) => {
    const { code, stderr } = await load(url, "transfers");
    assert.equal(code, 1);
    assert.match(stderr, /in the chain twice/);
  });
});

test("what a full pool refuses is sent again", () => {
  let refused = 0;
  const isRefused = new Set();
  const calls = (batch) =>
    batch.filter((call) => {
      // Every fifth at first.
      if (!sends(call) || call.id % 5 !== 4 || isRefused.has(call.params[0])) return true;
      isRefused.add(call.params[0]);
      return false;
    });
  const answers = (batch, answers) => {
    for (const [index, call] of batch.entries()) {
      if (!sends(call) || !isRefused.has(call.params[0]) || answers[index].result !== `0x${"11".repeat(32)}`) continue;
      refused += 1;
      answers[index] = { jsonrpc: "2.0", id: call.id, error: { code: -32000, message: "txpool is full" } };
    }
    return answers;
  };
  return throughProxy({ calls, answers }, async (url) => {
    const report = await passes(url, "transfers");
    assert.ok(refused >= TXS / 5 && report.retried >= TXS / 5, `${refused} ${report.retried}`);
  });
});

test("a node that refuses transactions is quoted", () => {
  let count = 0;
  const answers = (calls, answers) => {
    for (const [index, call] of calls.entries()) {
      if (!sends(call) || ++count !== 1 + TXS) continue;
      answers[index] = { jsonrpc: "2.0", id: call.id, error: { code: -32003, message: "the moon is not full" } };
    }
    return answers;
  };
  const calls = (batch) => batch.filter((call) => !sends(call) || count + batch.indexOf(call) !== TXS);
  return throughProxy({ calls, answers }, async (url) => {
    const { code, report, stderr } = await load(url, "transfers", "--connections", "1", "--timeout", "5");
    assert.equal(code, 1);
    assert.equal(report?.failed, 1, stderr);
    assert.match(stderr, /refused 1 transactions: the moon is not full/);
  });
});

test("what cannot work is said in a sentence", async () => {
  for (const [url, flags, expected] of [
    ["http://127.0.0.1:1", [], /cannot connect to http:\/\/127\.0\.0\.1:1/],
    [node.url, ["--chain-id", "5"], /chain id is 31337, not 5/],
    [node.url, ["--private-key", `0x${"7".padStart(64, "0")}`], /has 0 wei/],
    [node.url, ["--private-key", `0x${"0".repeat(64)}`], /private key is not valid/],
    [node.url, ["--max-fee", "1000000"], /needs \d+/],
  ]) {
    const { code, stderr } = await load(url, "transfers", ...flags);
    assert.equal(code, 1);
    assert.match(stderr, expected);
    assert.doesNotMatch(stderr, /panicked/);
  }
  for (const flags of [["--txs", "0"], ["--rate", "0"], ["--batch", "0"], ["--max-fee", "-1"]]) {
    const { code } = await load(node.url, "transfers", ...flags);
    assert.equal(code, 2, flags.join(" "));
  }
  const { code } = await load("https://127.0.0.1:1", "transfers");
  assert.equal(code, 2);
});

test("a node that makes no blocks is found out", () =>
  withNode({ kind: "heddle", mining: false }, async (idle) => {
    const { code, stderr } = await load(idle.url, "transfers", "--timeout", "1");
    assert.equal(code, 1);
    assert.match(stderr, /made no block with any of 1 transactions/);
  }));

test("a server that is no node is found out", async () => {
  const server = createServer((_, answer) => answer.writeHead(404).end("<html>nothing here</html>")).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { code, stderr } = await load(`http://127.0.0.1:${server.address().port}`, "transfers");
  server.closeAllConnections();
  server.close();
  assert.equal(code, 1);
  assert.match(stderr, /404.*nothing here/);
});
