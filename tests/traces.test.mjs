// What a transaction did, told by geth's tracers, by Parity's, and by what the Otterscan explorer asks.
import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeFunctionData } from "viem";
import { accounts } from "./lib/accounts.mjs";
import { nodeForThisFile, onAnvil } from "./lib/node.mjs";
import { contract } from "./lib/places.mjs";
import { sendAndWait } from "./lib/transactions.mjs";

const node = await nodeForThisFile();
const [alice, bob] = accounts;
const from = alice.address.toLowerCase();
const token = contract("TestToken");
const { contractAddress, transactionHash: creation } = await sendAndWait(node, { data: token.bytecode });
const call = (functionName, ...args) => encodeFunctionData({ abi: token.abi, functionName, args });
const minted = await sendAndWait(node, { to: contractAddress, data: call("mint", bob.address, 5n) });

test("geth's tracers agree with the receipt and with each other", async () => {
  const trace = (options) => node.rpc("debug_traceTransaction", minted.transactionHash, options);
  const steps = await trace({});
  assert.equal(BigInt(steps.gas), BigInt(minted.gasUsed));
  assert.ok(steps.structLogs.some(({ op }) => op === "SSTORE"));
  const frame = await trace({ tracer: "callTracer", tracerConfig: { withLog: true } });
  assert.equal(frame.type, "CALL");
  assert.equal(frame.to, contractAddress.toLowerCase());
  assert.equal(frame.gasUsed, minted.gasUsed);
  assert.equal(frame.logs.length, minted.logs.length);
  assert.equal((await trace({ tracer: "4byteTracer" }))[`${frame.input.slice(0, 10)}-64`], 1);
  const { pre, post } = await trace({ tracer: "prestateTracer", tracerConfig: { diffMode: true } });
  assert.equal(post[from].nonce, pre[from].nonce + 1);
  assert.ok(Object.keys(post[contractAddress.toLowerCase()].storage).length > 0);
});

test("a call is traced without being sent, and an unknown tracer is refused", async () => {
  const request = { from: alice.address, to: contractAddress, data: call("transfer", alice.address, 1n) };
  const frame = await node.rpc("debug_traceCall", request, "latest", { tracer: "callTracer" });
  assert.match(frame.error, /revert/);
  await assert.rejects(node.rpc("debug_traceCall", request, "latest", { tracer: "noSuchTracer" }));
});

test("Parity's traces show the same call", async () => {
  const [trace] = await node.rpc("trace_transaction", minted.transactionHash);
  assert.equal(trace.action.to, contractAddress.toLowerCase());
  assert.equal(trace.blockNumber, Number(minted.blockNumber));
  const [same] = await node.rpc("trace_block", minted.blockNumber);
  assert.deepEqual(same, trace);
  const created = await node.rpc("trace_filter", { fromBlock: "0x0", toAddress: [contractAddress] });
  assert.deepEqual(created.map(({ transactionHash }) => transactionHash), [creation, minted.transactionHash]);
});

test("Otterscan's calls find the creator, the page of an address and the calls", { skip: onAnvil }, async () => {
  assert.equal(await node.rpc("ots_getApiLevel"), 8);
  assert.deepEqual(await node.rpc("ots_getContractCreator", contractAddress), { hash: creation, creator: from });
  const page = await node.rpc("ots_searchTransactionsBefore", contractAddress, 0, 25);
  assert.deepEqual(page.txs.map(({ hash }) => hash), [minted.transactionHash, creation]);
  assert.ok(page.firstPage && page.lastPage);
  const [entry] = await node.rpc("ots_traceTransaction", minted.transactionHash);
  assert.equal(entry.type, "CALL");
  const { block } = await node.rpc("ots_getBlockDetails", Number(minted.blockNumber));
  assert.equal(block.transactionCount, 1);
  assert.equal((await node.rpc("erigon_getHeaderByNumber", minted.blockNumber)).hash, minted.blockHash);
});
