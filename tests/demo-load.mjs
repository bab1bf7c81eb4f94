#!/usr/bin/env node
// Fills a running development node with what a chain in use looks like: swaps, token transfers, plain transfers.
//
//   node tests/demo-load.mjs [TRANSACTIONS]
//
// 2,000 transactions by default, a hundred in a block; the node's URL is RPC_URL, http://127.0.0.1:8545 by default.
import { mixedLoad } from "./lib/mixed-load.mjs";

const count = Number(process.argv[2] ?? 2_000);
const { first, last, transactions } = await mixedLoad(process.env.RPC_URL ?? "http://127.0.0.1:8545", count);
console.log(`${transactions} transactions in blocks ${first} to ${last}`);
