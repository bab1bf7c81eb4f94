// Deploys through ethers, deposits from another account, and prints what the test wants to know, as one line of JSON.
import { network } from "hardhat";

const { ethers, networkName } = await network.create();
const [, other] = await ethers.getSigners();
const { timestamp } = (await ethers.provider.getBlock("latest"))!;
const savings = await ethers.deployContract("Savings", [timestamp + 1_000_000], { value: 3n });
await savings.waitForDeployment();
const sent = await savings.connect(other).getFunction("deposit")({ value: 4n });
const receipt = await sent.wait();
const [event] = await savings.queryFilter("Deposited", receipt.blockNumber);
console.log(
  JSON.stringify({
    networkName,
    address: await savings.getAddress(),
    balance: String(await ethers.provider.getBalance(savings)),
    deposits: String(await savings.getFunction("deposits")()),
    from: event.args.from,
    amount: String(event.args.amount),
    transactionHash: sent.hash,
  }),
);
