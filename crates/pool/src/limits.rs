//! How much the pool may hold.

use std::time::Duration;

/// Largest encoded transaction without blobs, in bytes. As geth: four slots of 32 KiB.
pub const TX_BYTES_MAX: usize = 4 * 32 * 1024;

/// Largest encoded blob transaction with its sidecar, in bytes. As geth. Six blobs with cell proofs need 820 KiB.
pub const BLOB_TX_BYTES_MAX: usize = 1024 * 1024;

/// By how many percent both fee caps must rise to replace a transaction of the same sender and nonce.
pub const PRICE_BUMP_PERCENT: u128 = 10;

/// The same where one of the two is a blob transaction; its blob fee cap must rise as much. Blobs are expensive to
/// pass around, so each replacement must be worth it.
pub const PRICE_BUMP_BLOB_PERCENT: u128 = 100;

/// Most transactions that one newcomer may push out. Bounds the time under the lock, and what a megabyte of
/// calldata can do to a thousand small transfers.
pub const EVICTIONS_PER_ADD_MAX: usize = 256;

/// How many new pending transactions a slow subscriber may fall behind before it misses some.
pub const PENDING_EVENTS_CAPACITY: usize = 16_384;

/// Bounds on the pool's size.
///
/// geth keeps 5,120 pending and 1,024 queued transactions, 16 and 64 of them for one account, because its pool faces
/// the gossip of the whole network and most of what it holds comes from strangers. A development node's pool faces its
/// own user, who sends 50,000 transactions from one account over eight connections in any order and expects all of them
/// to be mined. So ours are two orders of magnitude larger, and the bound that matters is memory: a small
/// transaction takes about 1 KiB with its index entries, so 200,000 of them take 200 MiB, and large ones run into
/// `bytes_max` first. The worst case is about 0.7 GiB, whatever is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Most transactions, pending and queued. Beyond, the cheapest leaves or the newcomer is refused.
    pub transactions_max: usize,
    /// Most queued transactions. Half of the pool, so that transactions that cannot run never crowd out those
    /// that can.
    pub queued_max: usize,
    /// Most transactions of one sender.
    pub per_sender_max: usize,
    /// Most encoded bytes in total, sidecars included.
    pub bytes_max: usize,
    /// Most encoded bytes of blob transactions, so that a few hundred of them cannot push out everything else.
    pub blob_bytes_max: usize,
    /// How long queued transactions of a sender stay without anything becoming pending. As geth: 3 hours.
    pub queued_lifetime: Duration,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            transactions_max: 200_000,
            queued_max: 100_000,
            per_sender_max: 100_000,
            bytes_max: 512 * 1024 * 1024,
            blob_bytes_max: 128 * 1024 * 1024,
            queued_lifetime: Duration::from_secs(3 * 60 * 60),
        }
    }
}
