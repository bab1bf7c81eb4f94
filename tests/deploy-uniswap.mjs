#!/usr/bin/env node
// Deploys Uniswap V2 with two tokens and a pool to a running development node, from the first development account, and
// prints where everything is as shell variables:
//
//   eval "$(node tests/deploy-uniswap.mjs)"
//
// The node's URL is the first argument or RPC_URL, http://127.0.0.1:8545 by default.
import { Contract, JsonRpcProvider, MaxUint256, NonceManager, Wallet } from "ethers";
import { accounts } from "./lib/accounts.mjs";
import { deployUniswap, erc20Abi } from "./lib/uniswap.mjs";

const url = process.argv[2] ?? process.env.RPC_URL ?? "http://127.0.0.1:8545";
const provider = new JsonRpcProvider(url, undefined, { staticNetwork: true, polling: true, pollingInterval: 20 });
const wallet = new Wallet(accounts[0].privateKey, provider);
const deployer = new NonceManager(wallet);
try {
  const at = await deployUniswap(deployer, [wallet.address]);
  await (await new Contract(at.tokenA, erc20Abi, deployer).approve(at.router, MaxUint256)).wait();
  console.log(`export RPC_URL=${url} ACCOUNT=${wallet.address} KEY=${wallet.privateKey}`);
  console.log(`export ROUTER=${at.router} TOKEN_A=${at.tokenA} TOKEN_B=${at.tokenB} PAIR=${at.pair}`);
} finally {
  provider.destroy();
}
