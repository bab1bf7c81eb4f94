// After many random requests, and a hundred clients that were slow or never finished what they began, a node takes the
// same memory and answers in the same time.
//
// HEDDLE_ENDURANCE_REQUESTS says how many (4,000 by default; `make endurance` sends 200,000 to a release build).
// crates/rpc/tests/fuzz sends random parameters to every method there is; here a whole node is measured from outside.
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "node:test";
import { WebSocket } from "ws";
import { accounts } from "./lib/accounts.mjs";
import { nodeForThisFile, onAnvil } from "./lib/node.mjs";
import { Random } from "./lib/random.mjs";
import { RpcConnection } from "./lib/rpc.mjs";
import { sendAndWait } from "./lib/transactions.mjs";

const REQUESTS = Number(process.env.HEDDLE_ENDURANCE_REQUESTS ?? 4_000);
const CONNECTIONS = 8;
const STUCK = 100;
/** What comes and goes with the allocator and the caches of a process of some 50 MB. */
const NOISE_BYTES = 8 << 20;

const datadir = mkdtempSync(join(tmpdir(), "heddle-endurance-"));
const node = await nodeForThisFile(onAnvil ? {} : { datadir });
node.beforeStop(() => rmSync(datadir, { recursive: true, force: true }));
const random = new Random();

const receipts = [];
for (const value of ["0x1", "0x2", "0x3"]) receipts.push(await sendAndWait(node, { to: accounts[1].address, value }));
const hashes = receipts.flatMap(({ transactionHash, blockHash }) => [transactionHash, blockHash]);

const quantity = () => random.pick([() => `0x${random.below(16).toString(16)}`, () => `0x${"f".repeat(1 + random.below(70))}`, () => random.below(1e9)])();
const address = () => random.pick([() => accounts[random.below(10)].address, () => random.hex(20), () => `0x${"0".repeat(38)}0${random.below(10)}`])();
const hash = () => random.pick([() => random.pick(hashes), () => random.hex(32)])();
const block = () => random.pick([() => random.pick(["latest", "pending", "earliest", "safe", "finalized"]), quantity, hash])();
const bool = () => random.below(2) === 1;
const call = () => ({
  from: accounts[0].address,
  ...(bool() ? { to: address() } : {}),
  data: random.pick(["0x", "0x5b600056", "0xfe", "0x60016000526001601ff3", "0x7fffffffffffffffff600052", random.hex(random.below(100))]),
  gas: "0x30d40",
});
const filter = () => ({ fromBlock: "0x0", toBlock: block(), address: address(), topics: [null, hash(), [hash(), hash()]].slice(0, random.below(4)) });
const tracer = () => random.pick([{}, { tracer: "callTracer" }, { tracer: "prestateTracer" }, { tracer: "4byteTracer" }, { tracer: "{}" }]);
const garbage = () => random.pick([null, true, -1, 1e300, "0x", "0xzz", "", "\u0000", [[[[]]]], { to: 7 }, "x".repeat(random.below(3_000))]);

/** Methods that leave the chain as it is. */
const METHODS = {
  eth_getBalance: [address, block], eth_getCode: [address, block], eth_getTransactionCount: [address, block],
  eth_getStorageAt: [address, quantity, block], eth_getProof: [address, () => [quantity(), quantity()], block],
  eth_call: [call, block], eth_estimateGas: [call, block], eth_createAccessList: [call, block],
  eth_simulateV1: [() => ({ blockStateCalls: [{ calls: [call(), call()] }] }), block],
  eth_getBlockByNumber: [block, bool], eth_getBlockByHash: [hash, bool], eth_getBlockReceipts: [block],
  eth_getTransactionByHash: [hash], eth_getTransactionReceipt: [hash], eth_getTransactionByBlockHashAndIndex: [hash, quantity],
  eth_getLogs: [filter], eth_feeHistory: [quantity, block, () => [0, 50, random.below(120)]], eth_gasPrice: [], eth_blobBaseFee: [],
  eth_getBlockAccessList: [block], eth_sendRawTransaction: [() => random.hex(random.below(200))], eth_syncing: [], eth_config: [],
  debug_traceCall: [call, block, tracer], debug_traceTransaction: [hash, tracer], debug_traceBlockByNumber: [block, tracer],
  debug_getRawBlock: [block], debug_executionWitness: [block], trace_block: [block], trace_call: [call, () => ["trace", "stateDiff"], block],
  trace_filter: [() => ({ fromBlock: "0x0", toAddress: [address()], count: 5 })], trace_replayTransaction: [hash, () => ["vmTrace"]],
  ots_getBlockDetails: [quantity], ots_searchTransactionsBefore: [address, quantity, quantity], txpool_content: [], txpool_inspect: [],
  heddle_getBlockProfile: [block], heddle_getHotLocations: [quantity, quantity], heddle_predictConflicts: [() => [call(), call()]],
  net_version: [], web3_sha3: [() => random.hex(random.below(500))], rpc_modules: [], eth_noSuchMethod: [garbage], anvil_nodeInfo: [],
};
const NAMES = Object.keys(METHODS);

function request(id) {
  const method = random.pick(NAMES);
  const params = METHODS[method].map((parameter) => (random.below(10) === 0 ? garbage() : parameter()));
  return { jsonrpc: "2.0", id, method, params: random.below(20) === 0 ? params.slice(1) : params };
}

async function ask(count) {
  const clients = Array.from({ length: CONNECTIONS }, () => new RpcConnection(node.url));
  let sent = 0;
  const work = async (client) => {
    while (sent < count) {
      const id = sent++;
      const { status, body } = await client.send(JSON.stringify(request(id)));
      assert.equal(status, 200);
      const answer = JSON.parse(body);
      assert.equal(answer.id, id);
      assert.ok("result" in answer !== "error" in answer, body);
    }
  };
  await Promise.all(clients.map(work));
  clients.forEach((client) => client.close());
}

/** Clients in every stage of being slow; gives what hangs up on all of them. */
async function stuckClients() {
  const head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n";
  const endless = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "eth_subscribe", params: ["newHeads"] });
  const port = Number(new URL(node.url).port);
  const stages = [
    { port, text: "" },
    { port, text: head.slice(0, 30) },
    { port, text: `${head}{"jsonrpc"` },
    { path: join(datadir, "heddle.ipc"), text: '{"jsonrpc":"2.0",' },
    { path: join(datadir, "heddle.ipc"), text: endless },
  ];
  const sockets = Array.from({ length: STUCK - 10 }, (_, index) => {
    const { text, ...place } = stages[index % stages.length];
    const socket = connect({ host: place.port && "127.0.0.1", ...place }).on("error", () => {});
    socket.pause().write(text);
    return socket;
  });
  const websockets = Array.from({ length: 10 }, () => new WebSocket(node.wsUrl).on("error", () => {}));
  await Promise.all(websockets.map((socket) => once(socket, "open")));
  for (const socket of websockets) {
    socket.pause();
    for (let count = 0; count < 20; count++) socket.send(endless);
  }
  return () => {
    sockets.forEach((socket) => socket.destroy());
    websockets.forEach((socket) => socket.terminate());
  };
}

const residentBytes = () => Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${node.child.pid}/status`, "utf8"))[1]) * 1024;

/** Milliseconds for a few hundred plain answers: the fastest of several times. */
async function answeringTime() {
  const client = new RpcConnection(node.url);
  let fastest = Infinity;
  for (let round = 0; round < 7; round++) {
    const started = performance.now();
    for (let count = 0; count < 300; count++) await client.call("eth_getBalance", [accounts[0].address, "latest"]);
    fastest = Math.min(fastest, performance.now() - started);
  }
  client.close();
  return fastest;
}

test("random requests and stuck clients leave the node as it was", { skip: onAnvil && "it grows", timeout: 60_000 + REQUESTS * 20 }, async () => {
  // Caches and pools are filled first; what is in use goes up and down, so later looks are compared with the most of these.
  let [bytesBefore, timeBefore] = [0, Infinity];
  for (let part = 0; part < 4; part++) {
    await ask(REQUESTS / 8);
    bytesBefore = Math.max(bytesBefore, residentBytes());
    timeBefore = Math.min(timeBefore, await answeringTime());
  }
  const hangUp = await stuckClients();
  await ask(REQUESTS / 2);
  hangUp();
  await sleep(500);
  // What is in use goes up and down by itself, and others share the machine. Something lost for each request stays lost,
  // and further requests only add to it.
  let [bytes, time] = [residentBytes(), await answeringTime()];
  const grew = () => bytes >= bytesBefore * 1.1 + NOISE_BYTES;
  for (let look = 0; look < 20 && (grew() || time > timeBefore * 2); look++) {
    await sleep(500);
    await ask(REQUESTS / 16);
    bytes = Math.min(bytes, residentBytes());
    time = Math.min(time, await answeringTime());
  }
  const mib = (value) => `${(value / (1 << 20)).toFixed(1)} MiB`;
  console.log(
    `${REQUESTS} requests, ${STUCK} stuck clients: ${mib(bytesBefore)} before, ${mib(bytes)} after; ` +
      `300 answers in ${timeBefore.toFixed(0)} ms before, ${time.toFixed(0)} ms after`,
  );
  assert.ok(!grew(), `memory grew from ${mib(bytesBefore)} to ${mib(bytes)}`);
  assert.ok(time <= timeBefore * 2, `300 answers took ${timeBefore} ms before and ${time} ms after`);
});
