// Every network helper of Hardhat's, and that it did what its name says.
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { network } from "hardhat";

const NOBODY = "0x7777777777777777777777777777777777777777";

describe("network helpers", async () => {
  const { viem, networkHelpers, provider } = await network.create();
  const { time } = networkHelpers;
  const reader = await viem.getPublicClient();
  const latest = () => reader.getBlock();
  let start: Awaited<ReturnType<typeof networkHelpers.takeSnapshot>>;
  before(async () => (start = await networkHelpers.takeSnapshot()));
  after(() => start.restore());

  it("are all used here", () => {
    const used = [
      "clearSnapshots", "dropTransaction", "getStorageAt", "impersonateAccount", "loadFixture", "mine", "mineUpTo",
      "setBalance", "setBlockGasLimit", "setCode", "setCoinbase", "setNextBlockBaseFeePerGas", "setNonce",
      "setPrevRandao", "setStorageAt", "stopImpersonatingAccount", "takeSnapshot",
    ];
    const methods = Object.getOwnPropertyNames(Object.getPrototypeOf(networkHelpers));
    assert.deepEqual(methods.filter((name) => name !== "constructor").sort(), used);
    const times = Object.getOwnPropertyNames(Object.getPrototypeOf(time)).filter((name) => name !== "constructor");
    assert.deepEqual(times.sort(), ["increase", "increaseTo", "latest", "latestBlock", "setNextBlockTimestamp"]);
  });

  it("mine blocks, so many or up to one, so far apart", async () => {
    const first = await latest();
    await networkHelpers.mine();
    assert.equal((await latest()).number, first.number + 1n);
    const second = await latest();
    await networkHelpers.mine(5, { interval: 60 });
    const third = await latest();
    assert.equal(third.number, second.number + 5n);
    assert.ok(third.timestamp >= second.timestamp + 4n * 60n, "60 seconds between the blocks");
    await networkHelpers.mineUpTo(third.number + 100n);
    assert.equal(await time.latestBlock(), Number(third.number) + 100);
    await assert.rejects(networkHelpers.mineUpTo(3), "that is past");
  });

  it("move time", async () => {
    const before = await time.latest();
    const answered = await time.increase(3600);
    assert.ok(answered >= before + 3600);
    assert.equal(await time.latest(), answered);
    await time.increaseTo(answered + 5000);
    assert.equal(await time.latest(), answered + 5000);
    await time.setNextBlockTimestamp(answered + 9000);
    assert.equal(await time.latest(), answered + 5000, "not yet");
    await networkHelpers.mine();
    assert.equal(await time.latest(), answered + 9000);
    await assert.rejects(time.increaseTo(answered), "that is past");
  });

  it("alter accounts", async () => {
    await networkHelpers.setBalance(NOBODY, 123n);
    assert.equal(await reader.getBalance({ address: NOBODY }), 123n);
    await networkHelpers.setNonce(NOBODY, 9);
    assert.equal(await reader.getTransactionCount({ address: NOBODY }), 9);
    await networkHelpers.setCode(NOBODY, "0x5f545f5260205ff3");
    await networkHelpers.setStorageAt(NOBODY, 0, 42);
    assert.equal(BigInt(await networkHelpers.getStorageAt(NOBODY, 0)), 42n);
    assert.equal(BigInt((await reader.call({ to: NOBODY })).data!), 42n);
  });

  it("say what the next block has", async () => {
    const savings = await viem.deployContract("Savings", [BigInt((await time.latest()) + 1000)]);
    await networkHelpers.setCoinbase(NOBODY);
    await networkHelpers.setBlockGasLimit(12_345_678);
    await networkHelpers.setPrevRandao(77);
    await networkHelpers.setNextBlockBaseFeePerGas(3_000_000_000n);
    await networkHelpers.mine();
    const block = await latest();
    assert.equal(block.miner.toLowerCase(), NOBODY);
    assert.equal(block.gasLimit, 12_345_678n);
    assert.equal(BigInt(block.mixHash!), 77n);
    assert.equal(block.baseFeePerGas, 3_000_000_000n);
    assert.equal(await savings.read.randomness({ blockNumber: block.number }), 77n);
  });

  it("take a transaction back", async () => {
    const [sender, receiver] = await viem.getWalletClients();
    await provider.request({ method: "evm_setAutomine", params: [false] });
    const hash = await sender.sendTransaction({ to: receiver.account.address, value: 1n });
    assert.equal(await networkHelpers.dropTransaction(hash), true);
    assert.equal(await networkHelpers.dropTransaction(hash), false);
    await networkHelpers.mine();
    await assert.rejects(reader.getTransaction({ hash }));
    await provider.request({ method: "evm_setAutomine", params: [true] });
  });

  it("go back to a snapshot as often as one likes", async () => {
    const { number } = await latest();
    const snapshot = await networkHelpers.takeSnapshot();
    for (const balance of [1n, 2n]) {
      await networkHelpers.setBalance(NOBODY, balance);
      await networkHelpers.mine(3);
      await snapshot.restore();
      assert.equal((await latest()).number, number);
      assert.equal(await reader.getBalance({ address: NOBODY }), 123n);
    }
  });
});
