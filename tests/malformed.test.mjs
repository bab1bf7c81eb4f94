// 1,000 requests that are wrong in every way we can think of. Each gets an error and none harms the node.
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { test } from "node:test";
import { WebSocket } from "ws";
import { accounts } from "./lib/accounts.mjs";
import { nodeForThisFile, onAnvil } from "./lib/node.mjs";
import { Random, seed } from "./lib/random.mjs";
import { RpcConnection } from "./lib/rpc.mjs";
import { sendAndWait } from "./lib/transactions.mjs";

const REQUESTS = 1_000;
const OVER_WEBSOCKET = 200;
/** Far above any sensible limit: geth takes 1,000 calls in a batch and 5 MiB in a body. */
const BATCH_CALLS = 50_000;
const BODY_BYTES = 128 << 20;
const NORMAL_MS = 1_000;

const node = await nodeForThisFile();
const random = new Random();
const address = accounts[0].address;

const envelope = (method, params) => JSON.stringify({ jsonrpc: "2.0", id: random.below(1e6), method, params });
const nested = (depth, open, close, core = "") => open.repeat(depth) + core + close.repeat(depth);

/** Something that is no address, number, hash, block tag, call or filter. */
const garbage = () =>
  random.pick([
    () => true,
    () => -1 - random.below(1e9),
    () => 0.5,
    () => 1e300,
    () => "latest!",
    () => "0x",
    () => "0xzz",
    () => `0x${"f".repeat(65 + random.below(400))}`,
    () => `${"9".repeat(100)}`,
    () => "",
    () => "\u0000\uffff😀",
    () => [[[]]],
    () => ({ to: 7 }),
    () => ({ blockHash: "0x1", blockNumber: "0x1" }),
    () => "x".repeat(10_000),
  ])();

const KINDS = {
  "not JSON": () => random.pick(["{", "}", "nonsense", "{'jsonrpc':1}", '{"a":', "[1,", '"', "{]}", "\\", "<xml/>"]),
  "random bytes": () => random.bytes(1 + random.below(200)),
  "JSON cut short": () => {
    const whole = envelope("eth_getBalance", [address, "latest"]);
    return whole.slice(0, 1 + random.below(whole.length - 2));
  },
  "not UTF-8": () => Buffer.from(envelope("eth_chainId\x80\xff\xfe", []), "latin1"),
  "no request object": () => random.pick(["1", "true", "null", '"eth_chainId"', "{}", '{"jsonrpc":"2.0"}', '{"id":1}']),
  "wrong version": () => JSON.stringify({ jsonrpc: random.pick(["1.0", 2, null]), id: 1, method: "eth_chainId" }),
  "method not a string": () => JSON.stringify({ jsonrpc: "2.0", id: 1, method: random.pick([1, null, [], {}]), params: [] }),
  "id of a wrong type": () => JSON.stringify({ jsonrpc: "2.0", id: random.pick([{}, [], true]), method: "eth_chainId" }),
  "unknown method": () =>
    envelope(random.pick(["eth_", "foo", "eth_getBalanc", "admin_stop", "__proto__", "debug_\u0000", "e".repeat(5_000)]), []),
  "params of a wrong type": () => envelope("eth_getBalance", random.pick(["0x1", 7, true, { a: 1 }])),
  "missing params": () =>
    envelope(random.pick(["eth_getBalance", "eth_getBlockByHash", "eth_getTransactionByHash", "eth_sendRawTransaction"]), []),
  "garbage where an address belongs": () =>
    envelope(random.pick(["eth_getBalance", "eth_getCode", "eth_getTransactionCount", "eth_getProof"]), [garbage(), "latest"]),
  "garbage where a block belongs": () => envelope("eth_getBalance", [address, garbage()]),
  "garbage where a hash belongs": () =>
    envelope(random.pick(["eth_getBlockByHash", "eth_getTransactionReceipt", "eth_getTransactionByHash"]), [garbage()]),
  "garbage where a call belongs": () =>
    envelope(random.pick(["eth_call", "eth_estimateGas", "eth_createAccessList", "eth_sendTransaction"]), [
      random.pick([true, 7, "0x", [[1]], { to: 7 }, { to: "0x12" }, { value: "ten" }, { data: "0xabc" }, { gas: -1 }]),
    ]),
  "numbers too large": () =>
    envelope("eth_call", [
      { to: address, [random.pick(["gas", "value", "gasPrice", "nonce"])]: `0x${"f".repeat(70)}` },
      "latest",
    ]),
  "block number too large": () =>
    envelope("eth_getBlockByNumber", [random.pick([`0x${"f".repeat(30)}`, -5, 1e40, "0x-1"]), false]),
  "a block that is not there": () => envelope("eth_getBalance", [address, random.pick(["0xffffff", { blockNumber: "0xffffff" }])]),
  "garbage where a filter belongs": () =>
    envelope(random.pick(["eth_getLogs", "eth_newFilter"]), [
      random.pick([7, "x", { address: "0x1" }, { topics: "0x" }, { topics: [["0x1"]] }, { fromBlock: "soon" }]),
    ]),
  "a filter that is not there": () =>
    envelope("eth_getFilterChanges", [random.pick([random.hex(16), "0xdeadbeef"])]),
  "a raw transaction that is none": () =>
    envelope("eth_sendRawTransaction", [
      random.pick([random.hex(100), "0x", "0x02", "0x04c0", `0x02${random.hex(60).slice(2)}`, "0xf8", `0x${"c1".repeat(900)}`]),
    ]),
  "deep arrays": () => nested(1_000 + random.below(100_000), "[", "]"),
  "deep objects": () => nested(1_000 + random.below(20_000), '{"a":', "}", "1"),
  "deep params": () => envelope("eth_call", "DEEP").replace('"DEEP"', nested(500 + random.below(5_000), "[", "]")),
  "an empty batch": () => "[]",
  "a batch of no requests": () => random.pick(["[1,2,3]", "[[]]", "[null]", '["a"]', "[{}]"]),
  "a batch of unknown methods": () =>
    `[${Array.from({ length: 1 + random.below(20) }, () => envelope("no_such", [])).join()}]`,
  "an empty body": () => "",
};

const TRANSPORT_KINDS = {
  "a wrong HTTP method": () => ({ method: random.pick(["GET", "PUT", "DELETE", "PATCH"]), body: envelope("eth_chainId", []) }),
  "a wrong content type": () => ({ headers: { "content-type": random.pick(["text/html", "image/png"]) }, body: "<html>" }),
};

function isError(answer) {
  return Number.isInteger(answer?.error?.code) && typeof answer.error.message === "string" && !("result" in answer);
}

function assertRefused(kind, sent, { status, body }) {
  const shown = `${kind}: ${String(sent).slice(0, 200)} → ${status} ${body.slice(0, 300)}`;
  if (status >= 400 && status < 500) return;
  assert.equal(status, 200, shown);
  let answer;
  try {
    answer = JSON.parse(body);
  } catch {
    assert.fail(shown);
  }
  const answers = Array.isArray(answer) ? answer : [answer];
  assert.ok(answers.length > 0 && answers.every(isError), shown);
}

async function assertHealthy() {
  const started = Date.now();
  assert.equal(await node.rpc("eth_chainId"), "0x7a69");
  assert.ok(Date.now() - started < NORMAL_MS, `eth_chainId took ${Date.now() - started} ms`);
}

test(`${REQUESTS} malformed HTTP requests each get an error`, async (t) => {
  t.diagnostic(`SEED=${seed}`);
  let connection = new RpcConnection(node.url);
  const kinds = Object.entries({ ...KINDS, ...TRANSPORT_KINDS });
  for (let index = 0; index < REQUESTS; index++) {
    const [kind, make] = kinds[index % kinds.length];
    const made = make();
    const { body, ...options } = typeof made === "string" || Buffer.isBuffer(made) ? { body: made } : made;
    assertRefused(kind, body, await connection.send(body, options));
    if (index % 100 === 99) {
      await assertHealthy();
      connection.close();
      connection = new RpcConnection(node.url);
    }
  }
  connection.close();
});

test(`${OVER_WEBSOCKET} malformed WebSocket messages each get an error on a connection that stays open`, async () => {
  const socket = new WebSocket(node.wsUrl);
  await once(socket, "open");
  const kinds = Object.entries(KINDS).filter(([kind]) => !["random bytes", "not UTF-8", "an empty body"].includes(kind));
  for (let index = 0; index < OVER_WEBSOCKET; index++) {
    const [kind, make] = kinds[index % kinds.length];
    const sent = make();
    socket.send(String(sent));
    const [answer] = await once(socket, "message");
    assertRefused(kind, sent, { status: 200, body: answer.toString() });
  }
  socket.send(envelope("eth_chainId", []));
  const [answer] = await once(socket, "message");
  assert.equal(JSON.parse(answer).result, "0x7a69");
  socket.close();
});

test("an oversized batch and an oversized body are refused", { todo: onAnvil && "anvil has no such limits" }, async () => {
  const connection = new RpcConnection(node.url);
  const call = '{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}';
  assertRefused("an oversized batch", "…", await connection.send(`[${Array(BATCH_CALLS).fill(call).join()}]`));
  await assertHealthy();
  try {
    assertRefused("an oversized body", "…", await connection.send(Buffer.alloc(BODY_BYTES, "[")));
  } catch (error) {
    // A server may also hang up while we are still sending.
    if (!["EPIPE", "ECONNRESET"].includes(error.code)) throw error;
  }
  connection.close();
  await assertHealthy();
});

test("clients that hang up in the middle of a request leave the node alone", async () => {
  for (let index = 0; index < 50; index++) {
    const socket = connect(node.port, "127.0.0.1");
    socket.on("error", () => {});
    await once(socket, "connect");
    const body = envelope("eth_getBalance", [address, "latest"]);
    const head = `POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n`;
    const whole = head + body;
    socket.write(random.pick([whole.slice(0, random.below(whole.length)), "\r\n\r\n", random.bytes(300)]));
    await new Promise((resolve) => setTimeout(resolve, 2));
    socket.destroy();
  }
  await assertHealthy();
});

test("after all of that the node still mines", async () => {
  assert.equal((await sendAndWait(node, { to: address, value: "0x1" })).status, "0x1");
  await assertHealthy();
});
