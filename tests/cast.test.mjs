// Foundry's cast: reading, sending, and the plain rpc command.
import assert from "node:assert/strict";
import { test } from "node:test";
import { accounts, CHAIN_ID } from "./lib/accounts.mjs";
import { nodeForThisFile } from "./lib/node.mjs";
import { contract, foundryBinary } from "./lib/places.mjs";
import { run } from "./lib/run.mjs";

const node = await nodeForThisFile();
const [alice, bob, carol] = accounts;
const token = contract("TestToken");
const TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef";

const cast = (...args) => run(foundryBinary("cast"), args, { env: { ETH_RPC_URL: node.url } });
const castJson = async (...args) => JSON.parse(await cast(...args, "--json"));
const signed = ["--private-key", alice.privateKey];

let tokenAddress;
let mintReceipt;

test("cast reads the chain id, the head and the ten funded accounts", async () => {
  assert.equal(await cast("chain-id"), String(CHAIN_ID));
  assert.equal(await cast("block-number"), "0");
  for (const { address } of accounts.slice(0, 3)) {
    assert.equal(await cast("balance", address), "10000000000000000000000");
  }
  assert.equal(await cast("balance", "--ether", accounts[9].address), "10000.000000000000000000");
  assert.equal(await cast("nonce", bob.address), "0");
  assert.equal(await cast("code", bob.address), "0x");
  assert.match(await cast("client"), /\S/);
  assert.ok(BigInt(await cast("gas-price")) > 0n);
  assert.ok(BigInt(await cast("base-fee")) > 0n);
});

test("cast send transfers ether and the receipt says so", async () => {
  const value = 1234567890n;
  const before = BigInt(await cast("balance", carol.address));
  const receipt = await castJson("send", carol.address, "--value", String(value), ...signed);
  assert.equal(receipt.status, "0x1");
  assert.equal(BigInt(receipt.gasUsed), 21_000n);
  assert.equal(BigInt(await cast("balance", carol.address)) - before, value);
  const legacy = await castJson("send", "--legacy", carol.address, "--value", "1", ...signed);
  assert.equal(legacy.type, "0x0");
  assert.equal(await cast("nonce", alice.address), "2");
  assert.equal(await cast("receipt", receipt.transactionHash, "blockNumber"), "1");
});

test("cast send uses an account that the node holds the key of", async () => {
  const receipt = await castJson("send", "--unlocked", "--from", bob.address, carol.address, "--value", "5");
  assert.equal(receipt.status, "0x1");
  assert.equal(receipt.from, bob.address.toLowerCase());
});

test("cast send --create deploys a contract that call and code read", async () => {
  const receipt = await castJson("send", ...signed, "--create", token.bytecode);
  assert.equal(receipt.status, "0x1");
  tokenAddress = receipt.contractAddress;
  assert.equal(await cast("code", tokenAddress), token.deployedBytecode);
  assert.equal(await cast("call", tokenAddress, "name()(string)"), '"Test Token"');
  assert.equal(await cast("codesize", tokenAddress), String(token.deployedBytecode.length / 2 - 1));
});

test("cast estimate, call, send, logs, storage and tx agree about a mint", async () => {
  const mint = ["mint(address,uint256)", bob.address, "1000"];
  const estimate = BigInt(await cast("estimate", "--from", alice.address, tokenAddress, ...mint));
  mintReceipt = await castJson("send", tokenAddress, ...mint, ...signed);
  assert.ok(BigInt(mintReceipt.gasUsed) <= estimate, "the estimate is enough");
  assert.ok(estimate < BigInt(mintReceipt.gasUsed) * 3n, "the estimate is not absurd");
  assert.equal(await cast("call", tokenAddress, "balanceOf(address)(uint256)", bob.address), "1000");
  assert.equal(BigInt(await cast("storage", tokenAddress, "0")), 1000n);

  const logs = await castJson("logs", "--from-block", "0", "--address", tokenAddress, "Transfer(address,address,uint256)");
  assert.equal(logs.length, 1);
  assert.equal(logs[0].topics[0], TRANSFER);
  assert.equal(logs[0].transactionHash, mintReceipt.transactionHash);
  assert.equal(BigInt(logs[0].data), 1000n);

  const transaction = await castJson("tx", mintReceipt.transactionHash);
  assert.equal(transaction.to, tokenAddress);
  assert.equal(transaction.blockHash, mintReceipt.blockHash);
  assert.equal(BigInt(await cast("tx", mintReceipt.transactionHash, "nonce")), BigInt(transaction.nonce));
});

test("cast call reports a revert with its reason, and send refuses to estimate it", async () => {
  const transfer = ["transfer(address,uint256)", bob.address, "1"];
  await assert.rejects(cast("call", tokenAddress, ...transfer, "--from", carol.address), /insufficient balance/);
  await assert.rejects(cast("send", tokenAddress, ...transfer, "--private-key", carol.privateKey), /insufficient balance/);
});

test("cast block shows blocks by number, tag and hash, with full transactions", async () => {
  const number = Number(mintReceipt.blockNumber);
  const block = await castJson("block", String(number), "--full");
  assert.equal(block.hash, mintReceipt.blockHash);
  assert.equal(block.transactions[0].hash, mintReceipt.transactionHash);
  assert.equal((await castJson("block", mintReceipt.blockHash)).number, mintReceipt.blockNumber);
  assert.equal((await castJson("block", "latest")).hash, block.hash);
  assert.equal((await castJson("block", "earliest")).number, "0x0");
  assert.match(await cast("age", String(number)), /\d{4}/);
});

test("cast access-list and proof answer for the token", async () => {
  const list = await cast(
    "access-list", tokenAddress, "transfer(address,uint256)", carol.address, "1", "--from", bob.address,
  );
  assert.match(list, /gas used/i);
  assert.ok(list.toLowerCase().includes(tokenAddress.toLowerCase()));
  const proof = await castJson("proof", tokenAddress, "0x0");
  assert.equal(proof.address.toLowerCase(), tokenAddress.toLowerCase());
  assert.equal(BigInt(proof.storageProof[0].value), 1000n);
  assert.ok(proof.accountProof.length > 0);
});

test("cast reads old state at old blocks", async () => {
  const number = Number(mintReceipt.blockNumber);
  const balanceOf = ["balanceOf(address)(uint256)", bob.address];
  assert.equal(await cast("call", "--block", String(number - 1), tokenAddress, ...balanceOf), "0");
  assert.equal(await cast("balance", "--block", "0", alice.address), "10000000000000000000000");
  assert.equal(await cast("nonce", "--block", "0", alice.address), "0");
});

test("cast rpc passes any method through", async () => {
  assert.equal(JSON.parse(await cast("rpc", "eth_chainId")), "0x7a69");
  assert.equal(JSON.parse(await cast("rpc", "net_version")), "31337");
  assert.match(JSON.parse(await cast("rpc", "web3_clientVersion")), /\//);
  assert.equal(
    JSON.parse(await cast("rpc", "web3_sha3", "0x68656c6c6f")),
    "0x1c8aff950685c2ed4bc3174f3472287b56d9517b9c948127319a09a7a36deac8",
  );
  await cast("rpc", "evm_mine");
  assert.equal(Number(await cast("block-number")), Number(mintReceipt.blockNumber) + 1);
});

test("cast publishes a transaction that cast mktx signed, and an EIP-2930 and an EIP-7702 one", async () => {
  const raw = await cast("mktx", carol.address, "--value", "7", ...signed);
  assert.equal((JSON.parse(await cast("publish", raw))).status, "0x1");
  const listed = await castJson("send", "--legacy", "--access-list", `[{"address":"${tokenAddress}","storageKeys":[]}]`, carol.address, ...signed);
  assert.equal(listed.status, "0x1");
  assert.equal(listed.type, "0x1");
  const delegated = await castJson("send", "--auth", tokenAddress, bob.address, "--private-key", carol.privateKey);
  assert.equal(delegated.type, "0x4");
  assert.equal(await cast("code", carol.address), `0xef0100${tokenAddress.slice(2).toLowerCase()}`);
});
