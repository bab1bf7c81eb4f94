// Errors carry geth's codes and words, because wallets and libraries look for them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { AbiCoder, Interface } from "ethers";
import { accounts } from "./lib/accounts.mjs";
import { nodeForThisFile, onAnvil } from "./lib/node.mjs";
import { contract } from "./lib/places.mjs";
import { RpcConnection } from "./lib/rpc.mjs";
import { sendAndWait, sign } from "./lib/transactions.mjs";

const node = await nodeForThisFile();
const [alice, bob] = accounts;
const { abi, bytecode } = contract("TestToken");
const token = new Interface(abi);
const { contractAddress } = await sendAndWait(node, { data: bytecode });

/** The error that the method answers with; `expected` checks its code and its words. */
async function errorOf(method, params, { code, message }) {
  const error = await node.rpc(method, ...params).then(
    (result) => assert.fail(`${method} answered ${JSON.stringify(result)}`),
    (error) => error,
  );
  // Anvil has codes of its own for refused transactions.
  if (code !== undefined && !(onAnvil && code === -32000)) assert.equal(error.code, code, error.message);
  if (message !== undefined) assert.match(error.reason, message);
  return error;
}

test("an unknown method is -32601", () => errorOf("eth_noSuchMethod", [], { code: -32601 }));

test("missing and wrong parameters are -32602", async () => {
  await errorOf("eth_getBalance", [], { code: -32602 });
  await errorOf("eth_getBalance", ["0x12", "latest"], { code: -32602 });
  await errorOf("eth_getBalance", [alice.address, "newest"], { code: -32602 });
  await errorOf("eth_getBlockByHash", ["0x1234", false], { code: -32602 });
  await errorOf("eth_call", [{ to: 5 }, "latest"], { code: -32602 });
});

test("text that is no JSON is -32700 and JSON that is no request -32600", async () => {
  const connection = new RpcConnection(node.url);
  assert.equal(JSON.parse((await connection.send("{nonsense")).body).error.code, onAnvil ? -32600 : -32700);
  assert.equal(JSON.parse((await connection.send("{}")).body).error.code, -32600);
  assert.equal(JSON.parse((await connection.send("[]")).body).error.code, -32600);
  connection.close();
});

test("a batch is answered call by call, notifications not at all", async () => {
  const connection = new RpcConnection(node.url);
  const { body } = await connection.send(
    JSON.stringify([
      { jsonrpc: "2.0", id: "a", method: "eth_chainId", params: [] },
      { jsonrpc: "2.0", method: "eth_blockNumber", params: [] },
      { jsonrpc: "2.0", id: 7, method: "eth_noSuchMethod", params: [] },
      { jsonrpc: "2.0", id: 8, method: "eth_chainId" },
      { jsonrpc: "2.0", id: 9, method: "eth_chainId", params: null },
    ]),
  );
  const byId = new Map(JSON.parse(body).map((answer) => [answer.id, answer]));
  assert.equal(byId.size, 4);
  for (const id of ["a", 8, 9]) assert.equal(byId.get(id).result, "0x7a69", `id ${id}`);
  assert.equal(byId.get(7).error.code, -32601);
  connection.close();
});

test("a revert with a reason is code 3, with the reason in words and as data", async () => {
  const call = { from: bob.address, to: contractAddress, data: token.encodeFunctionData("transfer", [alice.address, 1]) };
  const message = /^execution reverted: TestToken: insufficient balance$/;
  const data = `0x08c379a0${AbiCoder.defaultAbiCoder().encode(["string"], ["TestToken: insufficient balance"]).slice(2)}`;
  for (const method of ["eth_call", "eth_estimateGas"]) {
    assert.equal((await errorOf(method, [call, "latest"], { code: 3, message })).data, data, method);
  }
});

test("a refused transaction says why in geth's words", async () => {
  await sendAndWait(node, { from: bob.address, to: alice.address, value: "0x1" });
  const refused = async (fields, message) =>
    errorOf("eth_sendRawTransaction", [await sign(1, { nonce: 1, ...fields })], { code: -32000, message });
  await refused({ nonce: 0 }, /nonce too low/);
  await refused({ value: 10n ** 24n }, /insufficient funds for gas \* price \+ value/i);
  await refused({ gas: 20_000n }, /intrinsic gas too low/i);
  await refused({ gas: 2n ** 40n }, /gas limit|gas too high|exceeds/i);
  await refused({ chainId: 1 }, /chain ?id/i);
  await refused({ to: undefined, data: `0x${"5b".repeat(50_000)}`, gas: 10_000_000n }, /init ?code size/i);
  await errorOf("eth_sendTransaction", [{ from: `0x${"12".repeat(20)}`, to: alice.address }], { code: -32000 });
});

test("a transaction that reverts or runs out of gas is mined with status 0", async () => {
  const data = token.encodeFunctionData("transfer", [alice.address, 1]);
  const receipt = await sendAndWait(node, { from: accounts[2].address, to: contractAddress, data, gas: "0x186a0" });
  assert.equal(receipt.status, "0x0");
  assert.deepEqual(receipt.logs, []);
  const burn = contract("Gauntlet");
  const gauntlet = await sendAndWait(node, { data: burn.bytecode });
  const burned = await sendAndWait(node, { to: gauntlet.contractAddress, data: burn.selectors["burn()"], gas: "0x186a0" });
  assert.equal(burned.status, "0x0");
  assert.equal(burned.gasUsed, "0x186a0");
});

test("what does not exist is null, not an error", async () => {
  const hash = `0x${"ab".repeat(32)}`;
  assert.equal(await node.rpc("eth_getTransactionByHash", hash), null);
  assert.equal(await node.rpc("eth_getTransactionReceipt", hash), null);
  assert.equal(await node.rpc("eth_getBlockByHash", hash, false), null);
  assert.equal(await node.rpc("eth_getBlockByNumber", "0xffffff", true), null);
  assert.equal(await node.rpc("eth_getTransactionByBlockNumberAndIndex", "0x0", "0x5"), null);
});
