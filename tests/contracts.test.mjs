// Our own contracts: the committed bytecode is what the source compiles to, and the Gauntlet does what its tables say.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { Interface, keccak256, solidityPackedKeccak256 } from "ethers";
import { accounts } from "./lib/accounts.mjs";
import { nodeForThisFile } from "./lib/node.mjs";
import { contract, repository } from "./lib/places.mjs";
import { run } from "./lib/run.mjs";
import { hex, sendAndWait } from "./lib/transactions.mjs";

const node = await nodeForThisFile();
const heir = `0x${"77".repeat(20)}`;
const salt = `0x${"5a".repeat(32)}`;

test("contracts/build holds what the sources compile to", () =>
  run(process.execPath, [join(repository, "contracts", "compile.mjs"), "--check"]),
);

/** Deploys a contract with 1 ether and returns how to call it and to read its slots. */
async function deploy(name) {
  const { abi, bytecode, child } = contract(name);
  const { contractAddress: address } = await sendAndWait(node, { data: bytecode, value: hex(10n ** 18n) });
  const coder = new Interface(abi);
  return {
    address,
    child,
    data: (method, ...args) => coder.encodeFunctionData(method, args),
    send: (method, ...args) =>
      sendAndWait(node, { to: address, data: coder.encodeFunctionData(method, args), gas: hex(2_000_000) }),
    slot: async (k) => BigInt(await node.rpc("eth_getStorageAt", address, hex(k), "latest")),
  };
}

const balance = async (address) => BigInt(await node.rpc("eth_getBalance", address, "latest"));
const codeSize = async (address) => (await node.rpc("eth_getCode", address, "latest")).length / 2 - 1;

for (const name of ["GauntletByzantium", "GauntletConstantinople", "Gauntlet"]) {
  test(`${name} reads and writes the slots it is told to`, async () => {
    const { send, slot } = await deploy(name);
    await send("inc");
    await send("inc");
    await send("incAt", 5);
    await send("write", 6, 41);
    await send("copyPlusOne", 6, 7);
    assert.deepEqual([await slot(0), await slot(5), await slot(7)], [2n, 1n, 42n]);
    await send("swap", 5, 7);
    assert.deepEqual([await slot(5), await slot(7)], [42n, 1n]);
    await send("chase", 5, 2); // 5 → 42 → 0
    assert.equal(await slot(0), 3n);
    await send("branch", 0, 20, 21, 9);
    assert.deepEqual([await slot(20), await slot(21)], [9n, 0n]);
    await send("writeMany", 30, 3, 8);
    assert.deepEqual([await slot(30), await slot(32), await slot(33)], [8n, 8n, 0n]);
    assert.equal((await send("revertIf", 30, 8)).status, "0x0");
    await send("revertIf", 30, 7);
    assert.equal(await slot(30), 9n);
    await send("innerRevert", 31, 100);
    assert.equal(await slot(31), 9n);
    assert.equal((await send("revertAfterWrites", 40, 1, 3)).status, "0x0");
    assert.equal(await slot(40), 0n);
    assert.equal((await send("burn")).gasUsed, hex(2_000_000));
    assert.equal((await send("logs", salt, 2)).logs.length, 10);
  });

  test(`${name} sees the block, accounts and code, pays, and calls`, async () => {
    const { address, data, send, slot } = await deploy(name);
    const { blockNumber } = await send("recordBlock", 10);
    const block = await node.rpc("eth_getBlockByNumber", blockNumber, false);
    const seen = await Promise.all([10, 11, 12, 13, 14, 15].map(slot));
    const { number, miner, parentHash, timestamp, gasLimit, mixHash } = block;
    assert.deepEqual(seen, [number, miner, parentHash, timestamp, gasLimit, mixHash].map(BigInt));
    await send("recordCodeSize", address, 20);
    await send("recordCode", address, 21);
    assert.equal(await slot(20), BigInt(await codeSize(address)));
    assert.equal(await slot(21), BigInt(keccak256(await node.rpc("eth_getCode", address, "latest"))));
    const had = await balance(heir);
    await send("pay", heir, 3);
    assert.equal((await balance(heir)) - had, 3n);
    assert.equal((await send("payTwice", heir, heir, 10n ** 18n)).status, "0x0");
    await send("recordBalance", heir, 22);
    assert.equal(await slot(22), had + 3n);
    await send("callWithGas", address, 100_000, 0, data("write", 50, 1), 51);
    await send("callWithGas", address, 1_000, 0, data("write", 50, 2), 52);
    assert.deepEqual([await slot(50), await slot(51), await slot(52)], [1n, 2n, 1n]);
    await send("delegate", address, data("write", 53, 4));
    await send("staticRead", address, data("read", 53), 54);
    await send("spin", 3, 55);
    assert.deepEqual([await slot(53), await slot(54), (await slot(55)) > 0n], [4n, 4n, true]);
    await send("recordSender", 56);
    assert.equal(await slot(56), BigInt(accounts[0].address));
  });

  test(`${name} creates, uses and kills children`, async () => {
    const { send, slot, child } = await deploy(name);
    await send("create", 1, 7);
    const first = `0x${(await slot(1)).toString(16).padStart(40, "0")}`;
    assert.equal(await codeSize(first), child.deployedBytecode.length / 2 - 1);
    await send("setChild", first, 4, 44);
    await send("copyFromChild", first, 4, 2);
    assert.equal(await slot(2), 44n);
    const had = await balance(heir);
    await send("killChild", first, heir);
    assert.equal((await balance(heir)) - had, 7n);
    await send("createKill", heir, 3, 0);
    const gone = `0x${(await slot(3)).toString(16).padStart(40, "0")}`;
    assert.equal(await codeSize(gone), 0);
  });
}

for (const name of ["GauntletConstantinople", "Gauntlet"]) {
  test(`${name} re-creates children at the same address`, async () => {
    const { address, send, slot, child } = await deploy(name);
    const at = BigInt(
      `0x${solidityPackedKeccak256(
        ["bytes1", "address", "bytes32", "bytes32"],
        ["0xff", address, salt, keccak256(child.bytecode)],
      ).slice(26)}`,
    );
    await send("create2KillCreate2", salt, heir, 1);
    assert.deepEqual([await slot(1), await slot(2)], [at, 0n], "the address is taken until the transaction ends");
    await send("copyFromChild2", salt, 0, 3);
    assert.equal(await slot(3), 2n ** 256n - 1n, "nothing is left of it");
    await send("create2", salt, 4, 0);
    assert.equal(await slot(4), at);
    await send("setChild2", salt, 9, 99);
    await send("copyFromChild2", salt, 9, 5);
    assert.equal(await slot(5), 99n);
    await send("kill2Create2", salt, heir, 6);
    assert.equal(await slot(6), 0n);
    assert.equal((await send("create2Revert", `0x${"01".repeat(32)}`)).status, "0x0");
    await send("create2Kill", `0x${"01".repeat(32)}`, heir, 7, 0);
    assert.notEqual(await slot(7), 0n);
    await send("recordCodeHash", address, 8);
    assert.equal(await slot(8), BigInt(keccak256(contract(name).deployedBytecode)));
  });
}

test("Gauntlet's transient storage ends with its transaction and its frame", async () => {
  const { send, slot } = await deploy("Gauntlet");
  await send("transientInc", 1, 2);
  await send("transientInc", 1, 3);
  assert.deepEqual([await slot(2), await slot(3)], [1n, 1n]);
  await send("write", 4, 5);
  await send("transientRevert", 1, 4);
  assert.equal(await slot(4), 0n);
  const { blockNumber } = await send("recordFees", 5);
  const { baseFeePerGas } = await node.rpc("eth_getBlockByNumber", blockNumber, false);
  assert.equal(await slot(5), BigInt(baseFeePerGas));
  await send("recordSelfBalance", 8);
  assert.equal(await slot(8), 10n ** 18n);
});
