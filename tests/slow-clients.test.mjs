// Clients that are slow, stuck or greedy, over HTTP, WebSocket and IPC: everybody else is answered as ever, and the node
// takes a bounded amount of memory for them.
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
import { nodeForThisFile, onAnvil, until } from "./lib/node.mjs";
import { RpcConnection } from "./lib/rpc.mjs";
import { Subscriber } from "./lib/subscription.mjs";

/** Far more than a plain answer takes on a busy machine, far less than the clients below would hold it up. */
const PROMPT_MS = 3_000;
const MIB = 1 << 20;

const datadir = mkdtempSync(join(tmpdir(), "heddle-slow-"));
const ipc = join(datadir, "heddle.ipc");
const node = await nodeForThisFile(onAnvil ? {} : { datadir });
node.beforeStop(() => rmSync(datadir, { recursive: true, force: true }));
const port = Number(new URL(node.url).port);
const skip = onAnvil && "it has neither these limits nor this socket";

/** Logs 4 KiB 20 times whenever it is called. */
const LOGGER = "0x00000000000000000000000000000000000106e5";
const LOGGER_CODE = `0x${"6110005fa0".repeat(20)}`;
const GAS = "0x100000";

const call = (id, method, ...params) => JSON.stringify({ jsonrpc: "2.0", id, method, params });

/** A plain client of each kind, asking all the time. `stop` says how often it was answered and the longest that took. */
function askAllTheTime() {
  const http = new RpcConnection(node.url);
  const websocket = Subscriber.connect(node.wsUrl);
  let isAsking = true;
  const ask = async (balance) => {
    let [answers, longest] = [0, 0];
    while (isAsking) {
      const started = performance.now();
      assert.match(await balance(), /^0x/);
      longest = Math.max(longest, performance.now() - started);
      answers++;
      await sleep(5);
    }
    return { answers, longest };
  };
  const params = [accounts[5].address, "latest"];
  const asking = Promise.all([
    ask(() => http.call("eth_getBalance", params)),
    ask(async () => (await websocket).call("eth_getBalance", ...params)),
  ]);
  return async () => {
    isAsking = false;
    const answered = await asking;
    http.close();
    (await websocket).close();
    return answered;
  };
}

function assertPrompt(answered) {
  for (const { answers, longest } of answered) {
    assert.ok(answers > 20, `${answers} answers`);
    assert.ok(longest < PROMPT_MS, `an answer took ${longest} ms`);
  }
}

const residentBytes = () => {
  const status = readFileSync(`/proc/${node.child.pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)[1]) * 1024;
};

/** Sends these bytes one by one, and resolves with what comes back once `isWhole` says that it is all. */
async function drip(place, bytes, isWhole) {
  const socket = connect(place);
  let received = Buffer.alloc(0);
  socket.on("data", (data) => (received = Buffer.concat([received, data])));
  await once(socket, "connect");
  for (const byte of bytes) {
    socket.write(Buffer.of(byte));
    await sleep(10);
  }
  await until(() => isWhole(received.toString("latin1")), "the answer to a request sent byte by byte");
  socket.destroy();
  return received.toString("latin1");
}

/** A text message as a WebSocket client sends it, masked with zeros. */
const frame = (text) => Buffer.concat([Buffer.of(0x81, 0x80 | text.length, 0, 0, 0, 0), Buffer.from(text)]);
const UPGRADE =
  "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
  "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

test("a client that sends a byte at a time is answered, and nobody waits for it", { skip }, async () => {
  const stop = askAllTheTime();
  const request = call(7, "eth_chainId");
  const head = `POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${request.length}\r\n\r\n`;
  const isWhole = (text) => text.includes('"result":"0x7a69"');
  const clients = Array.from({ length: 10 }, () => [
    drip({ port, host: "127.0.0.1" }, Buffer.from(head + request), isWhole),
    drip({ port, host: "127.0.0.1" }, Buffer.concat([Buffer.from(UPGRADE), frame(request)]), isWhole),
    drip({ path: ipc }, Buffer.from(`${request}\n`), isWhole),
  ]);
  for (const answer of await Promise.all(clients.flat())) assert.match(answer, /"id":7/);
  assertPrompt(await stop());
});

/** What a client that never reads can be cut off from. */
class Stuck {
  static async http(bytes) {
    const socket = connect({ port, host: "127.0.0.1" });
    await once(socket, "connect");
    return new Stuck(socket.pause(), () => socket.write(bytes));
  }

  static async ipc(bytes) {
    const socket = connect({ path: ipc });
    await once(socket, "connect");
    return new Stuck(socket.pause(), () => socket.write(bytes));
  }

  static async websocket(requests) {
    const socket = new WebSocket(node.wsUrl);
    await once(socket, "open");
    socket.pause();
    return new Stuck(socket, () => requests.forEach((request) => socket.send(request)));
  }

  constructor(socket, ask) {
    this.received = 0;
    this.socket = socket.on("error", () => {});
    socket.on(socket instanceof WebSocket ? "message" : "data", (data) => (this.received += data.length));
    ask();
  }

  /** Reads after all, what is left, and resolves with how many bytes that was. */
  async end() {
    const closed = once(this.socket, "close");
    this.socket.resume();
    await closed;
    return this.received;
  }
}

test("clients that read nothing are disconnected, take bounded memory, and nobody waits for them", { skip }, async () => {
  const HTTP = 10, WEBSOCKETS = 3, PIPES = 2, QUESTIONS = 200, POURED = 100;
  await node.rpc("anvil_setCode", LOGGER, LOGGER_CODE);
  const send = () => node.rpc("eth_sendTransaction", { from: accounts[0].address, to: LOGGER, gas: GAS });
  const mined = (hash) => until(() => node.rpc("eth_getTransactionReceipt", hash), "a receipt", 60_000);
  let hash;
  for (let count = 0; count < 12; count++) hash = await send();
  const { blockNumber } = await mined(hash);
  const question = call(1, "eth_getLogs", { fromBlock: "0x0", toBlock: blockNumber });
  const answerBytes = JSON.stringify(await node.rpc("eth_getLogs", { fromBlock: "0x0", toBlock: blockNumber })).length;
  assert.ok(answerBytes > 1.5 * MIB, `an answer of ${answerBytes} bytes`);

  const before = residentBytes();
  let peak = before;
  const watch = setInterval(() => (peak = Math.max(peak, residentBytes())), 50);
  const stop = askAllTheTime();
  const heads = await Subscriber.connect(node.wsUrl);
  const seen = await heads.subscribe("newHeads");

  const head = `POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${question.length}\r\n\r\n`;
  const questions = Array.from({ length: QUESTIONS }, () => question);
  const subscriptions = [["newHeads"], ["logs"], ["newPendingTransactions", true]].map((params, id) =>
    call(id, "eth_subscribe", ...params),
  );
  const greedy = await Promise.all([
    ...Array.from({ length: HTTP }, () => Stuck.http((head + question).repeat(QUESTIONS / 10))),
    ...Array.from({ length: WEBSOCKETS }, () => Stuck.websocket(questions)),
    ...Array.from({ length: PIPES }, () => Stuck.ipc(questions.join("\n"))),
  ]);
  const subscribers = await Promise.all([
    Stuck.websocket(subscriptions),
    Stuck.websocket(subscriptions),
    Stuck.ipc(subscriptions.join("\n")),
  ]);
  const first = Number(await node.rpc("eth_blockNumber"));
  for (let count = 0; count < POURED; count++) hash = await send();
  const last = Number((await mined(hash)).blockNumber);
  await until(() => seen.some((block) => Number(block.number) === last), "the last block at a subscriber that reads", 60_000);
  const numbers = seen.map((block) => Number(block.number)).filter((number) => number > first);
  assert.deepEqual(numbers, Array.from({ length: last - first }, (_, index) => first + 1 + index));

  // A client may take nothing for 10 seconds.
  await sleep(11_000);
  assertPrompt(await stop());
  clearInterval(watch);
  heads.close();
  for (const client of greedy.slice(0, HTTP)) assert.ok((await client.end()) < (answerBytes * QUESTIONS) / 10);
  for (const client of greedy.slice(HTTP)) assert.ok((await client.end()) < answerBytes * QUESTIONS);
  // More was poured than fits between the node and a client: 16 MB of logs, in hex.
  for (const client of subscribers) assert.ok((await client.end()) < POURED * 20 * 2 * 4096);
  // Unbounded it would be 2 GB for the WebSockets and pipes alone.
  assert.ok(peak - before < 700 * MIB, `${(peak - before) / MIB} MiB for clients that do not read`);
});
