// What a project tests: deployment, events, reasons for refusal, time.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { network } from "hardhat";
import { parseEther } from "viem";

const YEAR = 365 * 24 * 60 * 60;

describe("Savings", async () => {
  const { viem, networkHelpers } = await network.create();
  const { time, loadFixture } = networkHelpers;
  const reader = await viem.getPublicClient();
  const [owner, stranger] = await viem.getWalletClients();

  async function deployed() {
    const unlockTime = BigInt((await time.latest()) + YEAR);
    const savings = await viem.deployContract("Savings", [unlockTime], { value: parseEther("1") });
    return { savings, unlockTime };
  }

  it("has what it was deployed with", async () => {
    const { savings, unlockTime } = await loadFixture(deployed);
    assert.equal(await savings.read.unlockTime(), unlockTime);
    assert.equal((await savings.read.owner()).toLowerCase(), owner.account.address.toLowerCase());
    assert.equal(await reader.getBalance({ address: savings.address }), parseEther("1"));
    await savings.write.deposit({ value: 1n });
    assert.equal(await savings.read.deposits(), 1n);
  });

  it("begins each time from the same snapshot", async () => {
    const { savings } = await loadFixture(deployed);
    assert.equal(await savings.read.deposits(), 0n);
    assert.equal(await reader.getBalance({ address: savings.address }), parseEther("1"));
  });

  it("tells who deposited", async () => {
    const { savings } = await loadFixture(deployed);
    const sent = savings.write.deposit({ value: 5n, account: stranger.account });
    const args = [stranger.account.address, 5n] as const;
    await viem.assertions.emitWithArgs(sent, savings, "Deposited", args.map((value) =>
      typeof value === "string" ? (seen: unknown) => String(seen).toLowerCase() === value.toLowerCase() : value,
    ) as never);
    await viem.assertions.balancesHaveChanged(await sent, [{ address: savings.address, amount: 5n }]);
  });

  it("refuses with reasons that reach the client", async () => {
    const { savings, unlockTime } = await loadFixture(deployed);
    const early = savings.write.withdraw();
    await viem.assertions.revertWithCustomErrorWithArgs(early, savings, "TooEarly", [
      (now: bigint) => now < unlockTime,
      unlockTime,
    ]);
    const notTheirs = savings.write.withdraw({ account: stranger.account });
    await viem.assertions.revertWith(notTheirs, "Savings: not the owner");
    await viem.assertions.revertWith(viem.deployContract("Savings", [1n]), "Savings: unlock time has passed");
  });

  it("pays out once the time has come", async () => {
    const { savings, unlockTime } = await loadFixture(deployed);
    await time.increaseTo(unlockTime);
    await viem.assertions.emitWithArgs(savings.write.withdraw(), savings, "Withdrawn", [
      (to: string) => to.toLowerCase() === owner.account.address.toLowerCase(),
      parseEther("1"),
    ]);
    assert.equal(await reader.getBalance({ address: savings.address }), 0n);
  });

  it("pays out to its owner without the owner's key", async () => {
    const { savings, unlockTime } = await loadFixture(deployed);
    const heir = "0x00000000000000000000000000000000000c0de5";
    await networkHelpers.setStorageAt(savings.address, 0, BigInt(heir));
    await networkHelpers.setBalance(heir, parseEther("2"));
    await networkHelpers.impersonateAccount(heir);
    await time.setNextBlockTimestamp(unlockTime + 10n);
    const wallet = await viem.getWalletClient(heir);
    const hash = await savings.write.withdraw({ account: wallet.account });
    const receipt = await reader.waitForTransactionReceipt({ hash });
    const { timestamp } = await reader.getBlock({ blockHash: receipt.blockHash });
    assert.equal(timestamp, unlockTime + 10n);
    const paid = receipt.gasUsed * receipt.effectiveGasPrice;
    assert.equal(await reader.getBalance({ address: heir }), parseEther("3") - paid);
    await networkHelpers.stopImpersonatingAccount(heir);
    await assert.rejects(savings.write.deposit({ account: wallet.account, value: 1n }));
  });
});
