// Uniswap V2 swaps from all ten accounts at once, half of them through ethers and half through viem, over HTTP and
// WebSocket, watched through every kind of subscription.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Contract, Interface, JsonRpcProvider, MaxUint256, NonceManager, Wallet, WebSocketProvider } from "ethers";
import { createPublicClient, createWalletClient, http, webSocket } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { foundry } from "viem/chains";
import { accounts, CHAIN_ID } from "./lib/accounts.mjs";
import { nodeForThisFile, until } from "./lib/node.mjs";
import { Subscriber } from "./lib/subscription.mjs";
import { amountOut, deployUniswap, erc20Abi, LIQUIDITY, pairAbi, routerAbi, TOKENS_EACH } from "./lib/uniswap.mjs";

const node = await nodeForThisFile();
const POLL_MS = 20;
/** Swaps an account sends one by one, each after the receipt of the one before. */
const SEQUENTIAL = 8;
/** Swaps an account sends right after each other with nonces it counts itself. */
const PIPELINED = 8;
const GAS = { gasLimit: 300_000n };
const pairInterface = new Interface(pairAbi);
const SWAP = pairInterface.getEvent("Swap").topicHash;

let uniswap;

/** An account's client: `approve(token)` and `swap(path, amount, nonce?)` resolve with the transaction's hash. */
function ethersClient(index, overWebSocket) {
  const options = { staticNetwork: true, pollingInterval: POLL_MS, cacheTimeout: -1 };
  const provider = overWebSocket
    ? new WebSocketProvider(node.wsUrl, CHAIN_ID, options)
    : new JsonRpcProvider(node.url, CHAIN_ID, options);
  node.beforeStop(() => provider.destroy());
  const { address, privateKey } = accounts[index];
  const wallet = new Wallet(privateKey, provider);
  const router = new Contract(uniswap.router, routerAbi, wallet);
  return {
    library: overWebSocket ? "ethers over WebSocket" : "ethers over HTTP",
    approve: async (token) => (await new Contract(token, erc20Abi, wallet).approve(uniswap.router, MaxUint256)).hash,
    nonce: () => provider.getTransactionCount(address, "pending"),
    async swap(path, amount, nonce) {
      const overrides = nonce === undefined ? GAS : { ...GAS, nonce };
      return (await router.swapExactTokensForTokens(amount, 0, path, address, MaxUint256, overrides)).hash;
    },
    wait: (hash) => provider.waitForTransaction(hash).then((receipt) => Number(receipt.status)),
  };
}

function viemClient(index, overWebSocket) {
  const transport = overWebSocket ? webSocket(node.wsUrl, { retryCount: 0, reconnect: false }) : http(node.url, { retryCount: 0 });
  const account = privateKeyToAccount(accounts[index].privateKey);
  const wallet = createWalletClient({ account, chain: foundry, transport, pollingInterval: POLL_MS });
  const reader = createPublicClient({ chain: foundry, transport, pollingInterval: POLL_MS });
  if (overWebSocket) node.beforeStop(async () => (await reader.transport.getRpcClient()).close());
  return {
    library: overWebSocket ? "viem over WebSocket" : "viem over HTTP",
    approve: (address) =>
      wallet.writeContract({ address, abi: erc20Abi, functionName: "approve", args: [uniswap.router, MaxUint256] }),
    nonce: () => reader.getTransactionCount({ address: account.address, blockTag: "pending" }),
    swap: (path, amount, nonce) =>
      wallet.writeContract({
        address: uniswap.router,
        abi: routerAbi,
        functionName: "swapExactTokensForTokens",
        args: [amount, 0n, path, account.address, MaxUint256],
        gas: GAS.gasLimit,
        nonce,
      }),
    wait: (hash) => reader.waitForTransactionReceipt({ hash }).then(({ status }) => (status === "success" ? 1 : 0)),
  };
}

async function deployAndConnect() {
  const provider = new JsonRpcProvider(node.url, CHAIN_ID, {
    staticNetwork: true,
    pollingInterval: POLL_MS,
    cacheTimeout: -1,
  });
  node.beforeStop(() => provider.destroy());
  const deployer = new NonceManager(new Wallet(accounts[0].privateKey, provider));
  uniswap = await deployUniswap(deployer, accounts.slice(1).map(({ address }) => address));
  return accounts.map((_, index) => (index % 2 ? viemClient : ethersClient)(index, index % 4 >= 2));
}

test("every swap of ten accounts on mixed clients is mined once and every event is seen once, in order", async () => {
  const clients = await deployAndConnect();
  await Promise.all(
    clients.map(async (client) => {
      for (const token of [uniswap.tokenA, uniswap.tokenB]) assert.equal(await client.wait(await client.approve(token)), 1);
    }),
  );
  const start = Number(await node.rpc("eth_blockNumber"));
  const watch = await watchEverything();

  // The swaps.
  const swapOf = (index, step) => ({
    path: (index + step) % 2 ? [uniswap.tokenA, uniswap.tokenB] : [uniswap.tokenB, uniswap.tokenA],
    amount: BigInt(1 + index) * 10n ** 17n + BigInt(step),
  });
  const hashes = await Promise.all(
    clients.map(async (client, index) => {
      const sent = [];
      for (let step = 0; step < SEQUENTIAL; step++) {
        const { path, amount } = swapOf(index, step);
        sent.push(await client.swap(path, amount));
        assert.equal(await client.wait(sent.at(-1)), 1, `${client.library}, swap ${step}`);
      }
      const nonce = await client.nonce();
      const pipelined = [];
      for (let step = 0; step < PIPELINED; step++) {
        const { path, amount } = swapOf(index, SEQUENTIAL + step);
        pipelined.push(await client.swap(path, amount, nonce + step));
      }
      for (const hash of pipelined) assert.equal(await client.wait(hash), 1, client.library);
      return [...sent, ...pipelined];
    }),
  );
  const sent = hashes.flat();
  assert.equal(new Set(sent).size, accounts.length * (SEQUENTIAL + PIPELINED));

  // Every swap is in exactly one block, and nothing else is in the blocks.
  const head = Number(await node.rpc("eth_blockNumber"));
  const blocks = [];
  for (let number = start; number <= head; number++) {
    blocks.push(await node.rpc("eth_getBlockByNumber", `0x${number.toString(16)}`, false));
  }
  const mined = blocks.slice(1).flatMap((block) => block.transactions);
  assert.deepEqual([...mined].sort(), [...sent].sort());

  // Every subscriber saw every event once, in the chain's order.
  const logs = await node.rpc("eth_getLogs", {
    fromBlock: `0x${(start + 1).toString(16)}`,
    toBlock: "latest",
    address: uniswap.pair,
    topics: [SWAP],
  });
  assert.deepEqual(logs.map(({ transactionHash }) => transactionHash), mined);
  await watch.settle({ heads: head - start, swaps: sent.length });
  assert.deepEqual(watch.heads.map(({ hash }) => hash), blocks.slice(1).map(({ hash }) => hash), "newHeads");
  watch.heads.forEach((seen, index) => assert.equal(seen.parentHash, blocks[index].hash, "newHeads are a chain"));
  assert.deepEqual(watch.logs.map(strip), logs.map(strip), "logs");
  assert.deepEqual([...watch.pending].sort(), [...sent].sort(), "newPendingTransactions");
  assert.deepEqual(watch.ethersSwaps, mined, "ethers contract.on");
  assert.deepEqual(watch.ethersBlocks, blocks.slice(1).map(({ number }) => Number(number)), "ethers provider.on(block)");
  assert.deepEqual(watch.viemSwaps, mined, "viem watchContractEvent");
  // viem fetches each announced block by itself and reports them as the answers come.
  assert.deepEqual([...watch.viemBlocks].sort(), blocks.slice(1).map(({ hash }) => hash).sort(), "viem watchBlocks");

  await checkAccounting(blocks[0].number, logs);
});

/** The fields that name a log; a node may add others. */
function strip({ address, topics, data, blockHash, blockNumber, transactionHash, transactionIndex, logIndex, removed }) {
  return { address, topics, data, blockHash, blockNumber, transactionHash, transactionIndex, logIndex, removed };
}

/** Subscribes through a bare WebSocket, ethers and viem. */
async function watchEverything() {
  const subscriber = await Subscriber.connect(node.wsUrl);
  node.beforeStop(() => subscriber.close());
  const heads = await subscriber.subscribe("newHeads");
  const logs = await subscriber.subscribe("logs", { address: uniswap.pair, topics: [SWAP] });
  const pending = await subscriber.subscribe("newPendingTransactions");

  const ethersSwaps = [];
  const ethersBlocks = [];
  const ethersProvider = new WebSocketProvider(node.wsUrl, CHAIN_ID, { staticNetwork: true });
  node.beforeStop(() => ethersProvider.destroy());
  const pair = new Contract(uniswap.pair, pairAbi, ethersProvider);
  await pair.on("Swap", (...args) => ethersSwaps.push(args.at(-1).log.transactionHash));
  await ethersProvider.on("block", (number) => ethersBlocks.push(number));

  const viemSwaps = [];
  const viemBlocks = [];
  const viem = createPublicClient({ chain: foundry, transport: webSocket(node.wsUrl, { retryCount: 0, reconnect: false }) });
  node.beforeStop(async () => (await viem.transport.getRpcClient()).close());
  const unwatch = [
    viem.watchContractEvent({
      address: uniswap.pair,
      abi: pairAbi,
      eventName: "Swap",
      onLogs: (seen) => viemSwaps.push(...seen.map(({ transactionHash }) => transactionHash)),
    }),
    viem.watchBlocks({ onBlock: ({ hash }) => viemBlocks.push(hash) }),
  ];
  node.beforeStop(() => unwatch.forEach((stop) => stop()));
  // Neither library says when its subscription is in place: give each one round trip on the same socket.
  await viem.getChainId();
  await ethersProvider.send("eth_chainId", []);
  await until(() => ethersProvider.websocket.readyState === 1, "the ethers socket");
  await new Promise((resolve) => setTimeout(resolve, 500));

  return {
    heads,
    logs,
    pending,
    ethersSwaps,
    ethersBlocks,
    viemSwaps,
    viemBlocks,
    /** Waits for the expected number of events, and then a little for any that should not come. */
    async settle({ heads: blocks, swaps }) {
      const expected = [
        [heads, blocks, "newHeads"],
        [logs, swaps, "logs"],
        [pending, swaps, "newPendingTransactions"],
        [ethersSwaps, swaps, "ethers Swap events"],
        [ethersBlocks, blocks, "ethers blocks"],
        [viemSwaps, swaps, "viem Swap events"],
        [viemBlocks, blocks, "viem blocks"],
      ];
      for (const [events, count, name] of expected) {
        await until(() => events.length >= count, `${count} ${name}`, 5_000).catch((error) => {
          throw new Error(`${error.message}; there were ${events.length}`);
        });
      }
      await new Promise((resolve) => setTimeout(resolve, 300));
    },
  };
}

/** Replays the Swap events with Uniswap's formula and compares every amount, the reserves and all balances. */
async function checkAccounting(startBlock, logs) {
  const call = async (to, contractInterface, name, args = [], block = "latest") =>
    contractInterface.decodeFunctionResult(
      name,
      await node.rpc("eth_call", { to, data: contractInterface.encodeFunctionData(name, args) }, block),
    );
  const erc20 = new Interface(erc20Abi);
  let [reserve0, reserve1] = await call(uniswap.pair, pairInterface, "getReserves", [], startBlock);
  assert.deepEqual([reserve0, reserve1], [LIQUIDITY, LIQUIDITY]);
  const change = new Map();
  for (const { topics, data } of logs) {
    const { amount0In, amount1In, amount0Out, amount1Out, to } = pairInterface.decodeEventLog("Swap", data, topics);
    if (amount0In > 0n) assert.equal(amount1Out, amountOut(amount0In, reserve0, reserve1));
    else assert.equal(amount0Out, amountOut(amount1In, reserve1, reserve0));
    reserve0 += amount0In - amount0Out;
    reserve1 += amount1In - amount1Out;
    const [old0, old1] = change.get(to) ?? [0n, 0n];
    change.set(to, [old0 + amount0Out - amount0In, old1 + amount1Out - amount1In]);
  }
  const [now0, now1] = await call(uniswap.pair, pairInterface, "getReserves");
  assert.deepEqual([now0, now1], [reserve0, reserve1], "reserves");
  assert.equal((await call(uniswap.token0, erc20, "balanceOf", [uniswap.pair]))[0], reserve0);
  assert.equal((await call(uniswap.token1, erc20, "balanceOf", [uniswap.pair]))[0], reserve1);
  for (const { address } of accounts.slice(1)) {
    const [change0, change1] = change.get(address);
    assert.equal((await call(uniswap.token0, erc20, "balanceOf", [address]))[0], TOKENS_EACH + change0);
    assert.equal((await call(uniswap.token1, erc20, "balanceOf", [address]))[0], TOKENS_EACH + change1);
  }
}
