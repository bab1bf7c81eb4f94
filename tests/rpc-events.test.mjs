// Logs, filters, subscriptions, and what browsers need of the transport.
import assert from "node:assert/strict";
import { test } from "node:test";
import { accounts } from "./lib/accounts.mjs";
import { nodeForThisFile, until } from "./lib/node.mjs";
import { contract } from "./lib/places.mjs";
import { RpcConnection } from "./lib/rpc.mjs";
import { Subscriber } from "./lib/subscription.mjs";
import { hex, sendAndWait } from "./lib/transactions.mjs";

const node = await nodeForThisFile();
const [alice, bob] = accounts;
const gauntlet = contract("Gauntlet");
const { contractAddress: address } = await sendAndWait(node, { data: gauntlet.bytecode });
const word = (value) => BigInt(value).toString(16).padStart(64, "0");
const topic = (value) => `0x${word(value)}`;

/** Emits, with this first topic, a LOG0 to LOG4 in each of `rounds` rounds. */
const emit = (first, rounds = 1) =>
  sendAndWait(node, { to: address, data: `${gauntlet.selectors["logs(bytes32,uint256)"]}${word(first)}${word(rounds)}` });

test("eth_getLogs filters by block range, hash, address and topics", async () => {
  const one = await emit(0x11, 2);
  const two = await emit(0x22);
  const query = (filter) => node.rpc("eth_getLogs", filter);
  const all = await query({ fromBlock: one.blockNumber, toBlock: two.blockNumber });
  assert.equal(all.length, 15);
  assert.deepEqual(all, [...one.logs, ...two.logs]);
  assert.deepEqual(all.slice(0, 10).map(({ logIndex }) => Number(logIndex)), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assert.deepEqual(await query({ blockHash: two.blockHash }), two.logs);
  const range = { fromBlock: "earliest", toBlock: "latest" };
  const count = async (filter) => (await query({ ...range, ...filter })).length;
  assert.equal(await count({ address }), 15);
  assert.equal(await count({ address: [address, bob.address] }), 15);
  assert.equal(await count({ address: bob.address }), 0);
  assert.equal(await count({ topics: [topic(0x11)] }), 8, "LOG0 has no topic");
  assert.equal(await count({ topics: [[topic(0x11), topic(0x22)]] }), 12);
  assert.equal(await count({ topics: [null, topic(1)] }), 3, "any first topic, the second round");
  assert.equal(await count({ topics: [topic(0x11), null, topic(alice.address)] }), 4);
  assert.equal(await count({ topics: [null, null, null, topic(address)] }), 3);
  assert.equal(await count({ topics: [] }), 15);
});

test("log, block and pending filters report what is new since they were last asked, and can be removed", async () => {
  const logs = await node.rpc("eth_newFilter", { address, topics: [topic(0x33)] });
  const blocks = await node.rpc("eth_newBlockFilter");
  const pending = await node.rpc("eth_newPendingTransactionFilter");
  const changes = (filter) => node.rpc("eth_getFilterChanges", filter);
  assert.deepEqual(await changes(logs), []);
  const receipt = await emit(0x33);
  const expected = receipt.logs.slice(1);
  assert.deepEqual(await changes(logs), expected);
  assert.deepEqual(await changes(blocks), [receipt.blockHash]);
  assert.deepEqual(await changes(pending), [receipt.transactionHash]);
  for (const filter of [logs, blocks, pending]) assert.deepEqual(await changes(filter), []);
  assert.deepEqual(await node.rpc("eth_getFilterLogs", logs), expected);
  for (const filter of [logs, blocks, pending]) {
    assert.equal(await node.rpc("eth_uninstallFilter", filter), true);
    assert.equal(await node.rpc("eth_uninstallFilter", filter), false);
    await assert.rejects(changes(filter));
  }
});

test("subscriptions deliver until they are cancelled, and HTTP has none", async () => {
  const subscriber = await Subscriber.connect(node.wsUrl);
  const heads = await subscriber.subscribe("newHeads");
  const every = await subscriber.subscribe("logs", {});
  const some = await subscriber.subscribe("logs", { address, topics: [topic(0x44)] });
  const { logs, blockHash, blockNumber } = await emit(0x44);
  await until(() => heads.length === 1 && every.length === 5 && some.length === 4, "the events", 5_000);
  assert.equal(heads[0].hash, blockHash);
  assert.equal(heads[0].number, blockNumber);
  const block = await node.rpc("eth_getBlockByHash", blockHash, false);
  for (const field of ["parentHash", "stateRoot", "receiptsRoot", "logsBloom", "timestamp", "gasUsed", "baseFeePerGas"]) {
    assert.equal(heads[0][field], block[field], field);
  }
  assert.deepEqual(every.map(({ logIndex }) => logIndex), logs.map(({ logIndex }) => logIndex));
  assert.equal(await subscriber.unsubscribe(some), true);
  await emit(0x44);
  await until(() => every.length === 10, "the other subscription's events", 5_000);
  assert.equal(some.length, 4);
  await assert.rejects(subscriber.call("eth_subscribe", "noSuchThing"));
  assert.equal(await subscriber.call("eth_chainId"), "0x7a69", "calls share the connection");
  await subscriber.close();
  await assert.rejects(node.rpc("eth_subscribe", "newHeads"));
  assert.equal((await emit(0x44)).status, "0x1", "a subscriber that left is no trouble");
});

test("a page on localhost may call the node from the browser", async () => {
  const connection = new RpcConnection(node.url);
  const origin = "http://localhost:3000";
  const preflight = await connection.send("", {
    method: "OPTIONS",
    headers: { origin, "access-control-request-method": "POST", "access-control-request-headers": "content-type" },
  });
  assert.ok([200, 204].includes(preflight.status), String(preflight.status));
  const allows = (value, wanted) => assert.match(value ?? "", new RegExp(`(^|[ ,])(\\*|${wanted})($|,)`, "i"));
  allows(preflight.headers["access-control-allow-origin"], origin);
  allows(preflight.headers["access-control-allow-headers"], "content-type");
  allows(preflight.headers["access-control-allow-methods"], "POST");
  const call = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "eth_chainId", params: [] });
  const { headers, body } = await connection.send(call, { headers: { origin } });
  allows(headers["access-control-allow-origin"], origin);
  assert.equal(JSON.parse(body).result, "0x7a69");
  connection.close();
});

test("64 connections at once are all answered", async () => {
  const connections = Array.from({ length: 64 }, () => new RpcConnection(node.url));
  const answers = await Promise.all(
    connections.map(async (connection, index) => {
      const balances = [];
      for (let round = 0; round < 10; round++) {
        balances.push(await connection.call("eth_getBalance", [accounts[index % 10].address, hex(round % 2)]));
      }
      connection.close();
      return balances.length;
    }),
  );
  assert.deepEqual(answers, Array(64).fill(10));
});
