// Transactions that arrive out of nonce order wait for their predecessors and are then mined, all of them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { keccak256 } from "viem";
import { accounts } from "./lib/accounts.mjs";
import { onAnvil, withNode } from "./lib/node.mjs";
import { Random, seed } from "./lib/random.mjs";
import { RpcConnection } from "./lib/rpc.mjs";
import { hex, sign } from "./lib/transactions.mjs";

const CONNECTIONS = 8;
const SENDERS = 8;
const NONCES = 500;
const STALLED_MS = 5_000;

const anvilStalls = onAnvil ? "anvil leaves some of these unmined in instant mode" : false;

async function signed(sender, nonces) {
  const raw = [];
  for (let nonce = 0; nonce < nonces; nonce++) raw.push(await sign(sender, { nonce, to: accounts[9].address }));
  return raw;
}

/** Waits until every sender's nonce is what it should be; gives up once none has moved for a while. */
async function allMined(node, expected) {
  let previous = -1;
  let movedAt = Date.now();
  for (;;) {
    const counts = await Promise.all(
      expected.map(async ([sender]) => Number(await node.rpc("eth_getTransactionCount", accounts[sender].address, "latest"))),
    );
    const mined = counts.reduce((sum, count) => sum + count, 0);
    const wanted = expected.reduce((sum, [, count]) => sum + count, 0);
    if (mined === wanted) return;
    if (mined !== previous) movedAt = Date.now();
    previous = mined;
    if (Date.now() - movedAt > STALLED_MS) assert.fail(`only ${mined} of ${wanted} were mined, next nonces ${counts}`);
    await sleep(50);
  }
}

test("4,000 transactions with shuffled nonces over 8 connections are all mined, each once", { todo: anvilStalls }, (t) =>
  withNode({}, async (node) => {
    t.diagnostic(`SEED=${seed}`);
    const random = new Random();
    const senders = await Promise.all(Array.from({ length: SENDERS }, (_, sender) => signed(sender, NONCES)));
    const order = random.shuffle(senders.flat());
    const connections = Array.from({ length: CONNECTIONS }, () => new RpcConnection(node.url));
    let next = 0;
    await Promise.all(
      connections.map(async (connection) => {
        while (next < order.length) {
          const raw = order[next++];
          assert.equal(await connection.call("eth_sendRawTransaction", [raw]), keccak256(raw));
        }
        connection.close();
      }),
    );
    await allMined(node, senders.map((raw, sender) => [sender, raw.length]));

    const mined = [];
    const head = Number(await node.rpc("eth_blockNumber"));
    for (let number = 1; number <= head; number++) {
      mined.push(...(await node.rpc("eth_getBlockByNumber", hex(number), false)).transactions);
    }
    assert.equal(mined.length, order.length);
    assert.deepEqual(mined.sort(), order.map((raw) => keccak256(raw)).sort());
    t.diagnostic(`${head} blocks`);
  }),
);

test("64 transactions sent in descending nonce order are mined when the first nonce arrives", () =>
  withNode({}, async (node) => {
    const raw = await signed(0, 64);
    for (const transaction of raw.slice(1).reverse()) await node.rpc("eth_sendRawTransaction", transaction);
    await sleep(100);
    assert.equal(await node.rpc("eth_blockNumber"), "0x0", "nothing can be mined before the first");
    await node.rpc("eth_sendRawTransaction", raw[0]);
    await allMined(node, [[0, raw.length]]);
  }),
);
