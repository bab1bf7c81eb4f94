// Signed transactions of the development accounts, and what becomes of them.
import { privateKeyToAccount } from "viem/accounts";
import { accounts, CHAIN_ID } from "./accounts.mjs";
import { until } from "./node.mjs";

const GWEI = 10n ** 9n;
const signers = accounts.map(({ privateKey }) => privateKeyToAccount(privateKey));

/** A raw EIP-1559 transaction of account `index`: a transfer of nothing to itself unless `fields` say otherwise. */
export function sign(index, fields) {
  return signers[index].signTransaction({
    type: "eip1559",
    chainId: CHAIN_ID,
    to: accounts[index].address,
    gas: 21_000n,
    maxFeePerGas: 20n * GWEI,
    maxPriorityFeePerGas: GWEI,
    ...fields,
  });
}

/** The receipt, once there is one. */
export const receiptOf = (node, hash) =>
  until(() => node.rpc("eth_getTransactionReceipt", hash), `a receipt of ${hash}`, 20_000, 5);

/** Sends from an account that the node signs for, waits, and returns the receipt. */
export async function sendAndWait(node, transaction) {
  return receiptOf(node, await node.rpc("eth_sendTransaction", { from: accounts[0].address, ...transaction }));
}

export const hex = (number) => `0x${BigInt(number).toString(16)}`;
