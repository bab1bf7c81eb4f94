// A load that looks like a chain in use: swaps over three Uniswap V2 pools, token transfers and plain transfers, sent by
// the ten development accounts at once.
import { Interface, JsonRpcProvider, MaxUint256, NonceManager, Wallet } from "ethers";
import { accounts, CHAIN_ID } from "./accounts.mjs";
import { RpcConnection } from "./rpc.mjs";
import { deployUniswap, erc20Abi, routerAbi } from "./uniswap.mjs";

const POOLS = 3;
/** Transactions in one block. */
const BLOCK = 100;
const POLL_MS = 50;
/** How long the load may take to get into blocks. */
const MINED_MS_MAX = 120_000;
const GWEI = 10n ** 9n;
const erc20 = new Interface(erc20Abi);
const router = new Interface(routerAbi);
const address = (number) => `0x${BigInt(number).toString(16).padStart(40, "0")}`;

/** Deploys the pools, gives every account tokens and lets the routers take them. */
async function deployPools(url) {
  const provider = new JsonRpcProvider(url, CHAIN_ID, { staticNetwork: true, polling: true, pollingInterval: POLL_MS });
  try {
    const deployer = new NonceManager(new Wallet(accounts[0].privateKey, provider));
    const holders = accounts.slice(1).map((account) => account.address);
    const pools = [];
    for (let pool = 0; pool < POOLS; pool++) pools.push(await deployUniswap(deployer, holders));
    return pools;
  } finally {
    provider.destroy();
  }
}

/** Of ten transactions of an account: three swaps, four token transfers, two plain transfers, and one that fails. */
function transaction(pools, account, step) {
  const pool = pools[(account + step) % POOLS];
  const path = (account + step) % 2 ? [pool.tokenA, pool.tokenB] : [pool.tokenB, pool.tokenA];
  const amount = 10n ** 15n * BigInt(1 + account) + BigInt(step);
  const kind = step % 10;
  if (kind < 3) {
    const args = [amount, 0n, path, accounts[account].address, MaxUint256];
    return { to: pool.router, data: router.encodeFunctionData("swapExactTokensForTokens", args), gasLimit: 300_000n };
  }
  if (kind < 7) {
    const data = erc20.encodeFunctionData("transfer", [address(0x10000 + account * 1000 + (step % 50)), amount]);
    return { to: path[0], data, gasLimit: 100_000n };
  }
  if (kind < 9) return { to: address(0x20000 + account * 1000 + (step % 50)), value: amount, gasLimit: 21_000n };
  return { to: path[0], data: erc20.encodeFunctionData("transfer", [address(1), MaxUint256]), gasLimit: 100_000n };
}

/**
 * Deploys, sends `count` transactions, and resolves once all are mined: `{ first, last }` block of the load. Meanwhile
 * the node makes blocks only when asked to, so that many come into one; then one for each transaction again.
 */
export async function mixedLoad(url, count, { batches = true } = {}) {
  const pools = await deployPools(url);
  const connection = new RpcConnection(url);
  const call = (method, ...params) => connection.call(method, params);
  const nonceOf = async (account) => Number(await call("eth_getTransactionCount", account.address, "pending"));
  const first = Number(await call("eth_blockNumber")) + 1;
  await call("evm_setAutomine", false);
  const raw = [];
  const each = Math.ceil(count / accounts.length);
  for (const [index, account] of accounts.entries()) {
    const wallet = new Wallet(account.privateKey);
    const nonce = await nonceOf(account);
    const approvals = pools.flatMap((pool) =>
      [pool.tokenA, pool.tokenB].map((to) => ({
        to,
        data: erc20.encodeFunctionData("approve", [pool.router, MaxUint256]),
        gasLimit: 100_000n,
      })),
    );
    const steps = Array.from({ length: each }, (_, step) => transaction(pools, index, step));
    const fees = { maxFeePerGas: 100n * GWEI, maxPriorityFeePerGas: GWEI };
    raw[index] = [];
    for (const [step, fields] of [...approvals, ...steps].entries()) {
      raw[index].push(await wallet.signTransaction({ type: 2, chainId: CHAIN_ID, nonce: nonce + step, ...fees, ...fields }));
    }
  }
  // One of each account in turn, as if they all sent at the same time.
  const turns = raw[0].flatMap((_, step) => raw.map((list) => list[step]));
  for (let start = 0; start < turns.length; start += BLOCK) {
    const sends = turns.slice(start, start + BLOCK).map((bytes, id) => (
      { jsonrpc: "2.0", id, method: "eth_sendRawTransaction", params: [bytes] }));
    const answers = [];
    for (const body of batches ? [sends] : sends) {
      answers.push(...[JSON.parse((await connection.send(JSON.stringify(body))).body)].flat());
    }
    const refused = answers.find(({ error }) => error);
    if (refused) throw new Error(`eth_sendRawTransaction: ${refused.error.message}`);
    await call("evm_mine");
  }
  const deadline = Date.now() + MINED_MS_MAX;
  for (const account of accounts) {
    const pending = await nonceOf(account);
    while (Number(await call("eth_getTransactionCount", account.address, "latest")) < pending) {
      if (Date.now() > deadline) throw new Error(`not all was mined within ${MINED_MS_MAX} ms`);
      await call("evm_mine");
    }
  }
  await call("evm_setAutomine", true);
  const last = Number(await call("eth_blockNumber"));
  connection.close();
  return { first, last, transactions: turns.length };
}
