// Reading the chain: blocks, receipts, calls with overrides, estimates, history, proofs, fees.
import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeRlp, Interface, keccak256, toBeHex, Wallet } from "ethers";
import { accounts } from "./lib/accounts.mjs";
import { isProof, provenValue, quantity } from "./lib/merkle.mjs";
import { nodeForThisFile, onAnvil } from "./lib/node.mjs";
import { contract } from "./lib/places.mjs";
import { hex, sendAndWait } from "./lib/transactions.mjs";

const node = await nodeForThisFile();
const [alice, bob, carol] = accounts;
const build = contract("TestToken");
const token = new Interface(build.abi);
const ETHER = 10n ** 18n;
const HISTORY = 20;
const EMPTY_ADDRESS = `0x${"12".repeat(20)}`;

/** Twenty blocks, each minting `100 * number` tokens to Bob and sending him `number` wei. */
const deployed = await sendAndWait(node, { data: build.bytecode });
const tokenAddress = deployed.contractAddress;
const recorded = [];
for (let step = 1; step <= HISTORY; step++) {
  const data = token.encodeFunctionData("mint", [bob.address, 100 * step]);
  await sendAndWait(node, { to: tokenAddress, data });
  await sendAndWait(node, { to: bob.address, value: hex(step) });
  recorded.push({
    number: await node.rpc("eth_blockNumber"),
    tokens: BigInt(50 * step * (step + 1)),
    wei: 10_000n * ETHER + BigInt((step * (step + 1)) / 2),
  });
}
const balanceOf = (owner) => ({ to: tokenAddress, data: token.encodeFunctionData("balanceOf", [owner]) });

test("balances, nonces, storage and calls are readable at every block, by number and by hash", async () => {
  for (const { number, tokens, wei } of recorded) {
    const { hash } = await node.rpc("eth_getBlockByNumber", number, false);
    for (const block of [number, { blockNumber: number }, { blockHash: hash }, { blockHash: hash, requireCanonical: true }]) {
      assert.equal(BigInt(await node.rpc("eth_getBalance", bob.address, block)), wei);
      assert.equal(BigInt(await node.rpc("eth_call", balanceOf(bob.address), block)), tokens);
      assert.equal(BigInt(await node.rpc("eth_getStorageAt", tokenAddress, "0x0", block)), tokens);
      assert.equal(await node.rpc("eth_getTransactionCount", alice.address, block), number);
    }
  }
  assert.equal(await node.rpc("eth_getCode", tokenAddress, "0x0"), "0x");
  assert.equal(await node.rpc("eth_getCode", tokenAddress, "0x1"), build.deployedBytecode);
  assert.equal(BigInt(await node.rpc("eth_getBalance", bob.address, "earliest")), 10_000n * ETHER);
});

test("a block's hash is the hash of its header's fields", async () => {
  for (const number of ["0x0", "0x1", recorded.at(-1).number]) {
    const block = await node.rpc("eth_getBlockByNumber", number, false);
    const fields = [
      ...[block.parentHash, block.sha3Uncles, block.miner, block.stateRoot, block.transactionsRoot, block.receiptsRoot],
      ...[block.logsBloom, ...["difficulty", "number", "gasLimit", "gasUsed", "timestamp"].map((name) => quantity(block[name]))],
      ...[block.extraData, block.mixHash, block.nonce, quantity(block.baseFeePerGas)],
      ...(block.withdrawalsRoot ? [block.withdrawalsRoot] : []),
      ...(block.blobGasUsed ? [quantity(block.blobGasUsed), quantity(block.excessBlobGas), block.parentBeaconBlockRoot] : []),
      ...(block.requestsHash ? [block.requestsHash] : []),
    ];
    assert.equal(keccak256(encodeRlp(fields)), block.hash, `block ${number}`);
    assert.deepEqual(block.uncles, []);
    assert.ok(block.size !== undefined);
  }
});

test("transactions, receipts and counts agree, whichever way they are asked for", async () => {
  const block = await node.rpc("eth_getBlockByNumber", "latest", true);
  const [transaction] = block.transactions;
  assert.deepEqual(await node.rpc("eth_getBlockByHash", block.hash, true), block);
  assert.deepEqual(await node.rpc("eth_getTransactionByHash", transaction.hash), transaction);
  assert.deepEqual(await node.rpc("eth_getTransactionByBlockHashAndIndex", block.hash, "0x0"), transaction);
  assert.deepEqual(await node.rpc("eth_getTransactionByBlockNumberAndIndex", block.number, "0x0"), transaction);
  assert.equal(await node.rpc("eth_getBlockTransactionCountByNumber", block.number), "0x1");
  assert.equal(await node.rpc("eth_getBlockTransactionCountByHash", block.hash), "0x1");
  assert.equal(await node.rpc("eth_getUncleCountByBlockNumber", block.number), "0x0");
  const receipt = await node.rpc("eth_getTransactionReceipt", transaction.hash);
  assert.deepEqual(await node.rpc("eth_getBlockReceipts", block.number), [receipt]);
  assert.equal(receipt.effectiveGasPrice, transaction.gasPrice);
  assert.equal(receipt.cumulativeGasUsed, block.gasUsed);
  assert.equal(receipt.from, alice.address.toLowerCase());
  assert.equal(receipt.contractAddress, null);
});

test("the tags latest, pending, safe, finalized and earliest name blocks in that order", async () => {
  const [latest, pending, safe, finalized, earliest] = await Promise.all(
    ["latest", "pending", "safe", "finalized", "earliest"].map(async (tag) =>
      Number((await node.rpc("eth_getBlockByNumber", tag, false)).number),
    ),
  );
  assert.equal(latest, Number(await node.rpc("eth_blockNumber")));
  assert.equal(pending, latest + 1);
  assert.ok(safe <= latest && finalized <= safe && earliest === 0);
});

test("eth_call sees state overrides: balance, nonce, code, state and stateDiff", async () => {
  const call = (to, data, override) => node.rpc("eth_call", { to, data }, "latest", override);
  const supply = token.encodeFunctionData("totalSupply");
  assert.equal(BigInt(await call(tokenAddress, supply, { [tokenAddress]: { stateDiff: { [toBeHex(0, 32)]: toBeHex(77, 32) } } })), 77n);
  assert.equal(BigInt(await call(tokenAddress, supply, { [tokenAddress]: { state: {} } })), 0n, "state replaces all");
  assert.notEqual(BigInt(await call(tokenAddress, supply, {})), 0n);
  // SELFBALANCE PUSH0 MSTORE, PUSH1 32 PUSH0 RETURN at an address without code.
  const code = "0x475f5260205ff3";
  assert.equal(BigInt(await call(EMPTY_ADDRESS, "0x", { [EMPTY_ADDRESS]: { code, balance: hex(ETHER) } })), ETHER);
  assert.equal(await node.rpc("eth_getCode", EMPTY_ADDRESS, "latest"), "0x", "nothing is kept");
  // The address of a contract created from an address tells its nonce: CREATE of nothing.
  const create = "0x5f5f5ff05f5260205ff3";
  const [first, second] = await Promise.all(
    ["0x1", "0x2"].map((nonce) => call(EMPTY_ADDRESS, "0x", { [EMPTY_ADDRESS]: { code: create, nonce } })),
  );
  assert.notEqual(first, second);
});

test("eth_call sees block overrides", async () => {
  // NUMBER, TIMESTAMP, COINBASE, PREVRANDAO, GASLIMIT and BASEFEE, a word each.
  const code = "0x435f52426020524160405244606052456080524860a05260c05ff3";
  const miner = `0x${"aa".repeat(20)}`;
  const words = await node.rpc(
    "eth_call",
    { to: EMPTY_ADDRESS },
    "latest",
    { [EMPTY_ADDRESS]: { code } },
    {
      number: "0x1234",
      time: "0xffffffff",
      feeRecipient: miner,
      prevRandao: toBeHex(5, 32),
      gasLimit: "0x2000000",
      baseFeePerGas: "0x7",
    },
  );
  const found = words.slice(2).match(/.{64}/g).map((word) => BigInt(`0x${word}`));
  assert.deepEqual(found.slice(0, 5), [0x1234n, 0xffffffffn, BigInt(miner), 5n, 0x2000000n]);
  // Without a fee in the call, BASEFEE is 0 in geth whatever the override; some nodes show the override.
  assert.ok([0n, 7n].includes(found[5]));
});

test("eth_estimateGas finds the least gas that works, and honours overrides", async () => {
  assert.equal(await node.rpc("eth_estimateGas", { from: alice.address, to: bob.address, value: "0x1" }), "0x5208");
  const mint = { from: carol.address, to: tokenAddress, data: token.encodeFunctionData("mint", [carol.address, 5]) };
  const estimate = BigInt(await node.rpc("eth_estimateGas", mint));
  const { status, gasUsed } = await sendAndWait(node, { ...mint, gas: hex(estimate) });
  assert.equal(status, "0x1");
  assert.ok(BigInt(gasUsed) <= estimate && estimate <= (BigInt(gasUsed) * 13n) / 10n, `${estimate} for ${gasUsed}`);
  const poor = { from: EMPTY_ADDRESS, to: bob.address, value: hex(ETHER) };
  if (!onAnvil) await assert.rejects(node.rpc("eth_estimateGas", poor, "latest"), /insufficient funds/i);
  const rich = { [EMPTY_ADDRESS]: { balance: hex(2n * ETHER) } };
  assert.equal(await node.rpc("eth_estimateGas", poor, "latest", rich), "0x5208");
  const create = BigInt(await node.rpc("eth_estimateGas", { from: alice.address, data: build.bytecode }));
  assert.ok(create >= BigInt(deployed.gasUsed));
});

test("eth_createAccessList names the slots a call touches", async () => {
  const transfer = { from: bob.address, to: tokenAddress, data: token.encodeFunctionData("transfer", [carol.address, 1]) };
  const { accessList, gasUsed, error } = await node.rpc("eth_createAccessList", transfer, "latest");
  assert.equal(error, undefined);
  assert.equal(accessList.length, 1);
  assert.equal(accessList[0].address.toLowerCase(), tokenAddress);
  assert.equal(new Set(accessList[0].storageKeys).size, 2, "both balances");
  assert.ok(BigInt(gasUsed) > 21_000n);
});

test("eth_getProof proves accounts and slots, there or absent, against the block's state root", async () => {
  for (const number of [recorded[3].number, recorded.at(-1).number]) {
    const { stateRoot } = await node.rpc("eth_getBlockByNumber", number, false);
    const [supplySlot, missingSlot] = [toBeHex(0, 32), toBeHex(99, 32)];
    const proof = await node.rpc("eth_getProof", tokenAddress, [supplySlot, missingSlot], number);
    assert.ok(isProof(stateRoot, proof));
    assert.equal(proof.codeHash, keccak256(build.deployedBytecode));
    const [supply, missing] = proof.storageProof;
    assert.equal(BigInt(supply.value), BigInt(await node.rpc("eth_getStorageAt", tokenAddress, "0x0", number)));
    assert.equal(BigInt(missing.value), 0n);

    // geth takes a slot as a number too.
    if (!onAnvil) assert.deepEqual((await node.rpc("eth_getProof", tokenAddress, ["0x0"], number)).storageProof[0].proof, supply.proof);

    const absent = await node.rpc("eth_getProof", EMPTY_ADDRESS, [], number);
    assert.equal(provenValue(stateRoot, EMPTY_ADDRESS, absent.accountProof), null);
    assert.equal(BigInt(absent.balance), 0n);
  }
});

test("eth_feeHistory has one more base fee than blocks, and rewards by percentile", async () => {
  const history = await node.rpc("eth_feeHistory", "0x5", "latest", [10, 50, 90]);
  const head = Number(await node.rpc("eth_blockNumber"));
  assert.equal(Number(history.oldestBlock), head - 4);
  assert.equal(history.baseFeePerGas.length, 6);
  assert.equal(history.gasUsedRatio.length, 5);
  assert.equal(history.baseFeePerBlobGas.length, 6);
  assert.equal(history.blobGasUsedRatio.length, 5);
  assert.deepEqual(history.reward.map((rewards) => rewards.length), [3, 3, 3, 3, 3]);
  const block = await node.rpc("eth_getBlockByNumber", "latest", false);
  assert.equal(history.baseFeePerGas[4], block.baseFeePerGas);
  assert.ok(Math.abs(history.gasUsedRatio[4] - Number(block.gasUsed) / Number(block.gasLimit)) < 1e-9);
  const short = await node.rpc("eth_feeHistory", 2, hex(head));
  assert.equal(short.baseFeePerGas.length, 3);
});

test("fee, network and client methods answer in their shapes", async () => {
  const quantity = /^0x(0|[1-9a-f][0-9a-f]*)$/;
  for (const method of ["eth_gasPrice", "eth_maxPriorityFeePerGas", "eth_blobBaseFee", "eth_chainId", "eth_blockNumber"]) {
    assert.match(await node.rpc(method), quantity, method);
  }
  assert.equal(await node.rpc("eth_syncing"), false);
  assert.equal(await node.rpc("net_version"), "31337");
  assert.equal(await node.rpc("net_listening"), true);
  assert.match(await node.rpc("web3_clientVersion"), onAnvil ? /^anvil/ : /^heddle\//i);
  const listed = await node.rpc("eth_accounts");
  assert.deepEqual(listed.map((address) => address.toLowerCase()), accounts.map(({ address }) => address.toLowerCase()));
});

test("eth_sign, personal_sign and eth_signTypedData_v4 sign as ethers does", async () => {
  const wallet = new Wallet(alice.privateKey);
  const signature = await wallet.signMessage("hello");
  const message = `0x${Buffer.from("hello").toString("hex")}`;
  assert.equal(await node.rpc("eth_sign", alice.address, message), signature);
  assert.equal(await node.rpc("personal_sign", message, alice.address), signature);

  const domain = { name: "Heddle", version: "1", chainId: 31337, verifyingContract: tokenAddress };
  const types = {
    Person: [{ name: "wallet", type: "address" }],
    Mail: [
      { name: "from", type: "Person" },
      { name: "amounts", type: "uint256[]" },
      { name: "text", type: "string" },
    ],
  };
  const value = { from: { wallet: bob.address }, amounts: ["1", "2"], text: "hej" };
  const typed = {
    domain,
    primaryType: "Mail",
    message: value,
    types: {
      EIP712Domain: [
        { name: "name", type: "string" },
        { name: "version", type: "string" },
        { name: "chainId", type: "uint256" },
        { name: "verifyingContract", type: "address" },
      ],
      ...types,
    },
  };
  const expected = await wallet.signTypedData(domain, types, value);
  assert.equal(await node.rpc("eth_signTypedData_v4", alice.address, typed), expected);
  // Wallets pass the typed data as a string.
  if (!onAnvil) assert.equal(await node.rpc("eth_signTypedData_v4", alice.address, JSON.stringify(typed)), expected);
  await assert.rejects(node.rpc("eth_sign", EMPTY_ADDRESS, message));
});
