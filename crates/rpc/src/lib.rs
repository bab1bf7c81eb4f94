//! JSON-RPC over HTTP and WebSocket on one port, and over IPC, with geth's semantics.
//!
//! **Owns** the wire: the server, the methods' names, parameters, answers and errors, filters and subscriptions, and
//! the signing of transactions with the development keys.
//!
//! **Promises**
//! - Codes, messages and defaults are geth's, because wallets and libraries depend on them; `docs/json-rpc.md` lists
//!   every deviation.
//! - Nothing that a client sends can panic the node, hold up another client or the making of blocks, or grow memory
//!   without bound. Every limit has a name in [`RpcLimits`]. Expensive methods run in a bounded pool; what reads a few
//!   values is answered at once.
//! - A subscriber hears of every block, log and pending transaction once and in order, or is told that it does not.
//! - Nothing polls and nothing sleeps between a transaction and its receipt.
//!
//! **Leaves to others** what is valid (`pool`), what blocks are made of and when (`builder`), executing calls (revm,
//! through alloy-evm), and where blocks and state are kept (`chain`).

mod accounts;
mod blocks;
mod call;
mod call_many;
mod capabilities;
mod config;
mod connection;
mod context;
mod convert;
mod dev;
mod errors;
mod estimate;
mod fees;
mod filters;
mod fork;
mod heddle;
mod http;
mod ingress;
mod ipc;
mod logs;
mod methods;
mod overrides;
mod params;
mod pool;
mod ranges;
mod revert;
mod server;
mod service;
mod simulate;
mod state;
mod subscriptions;
mod testing;
mod trace;
mod traffic;
mod transactions;
mod watch;
mod work;

pub use config::{Apis, ForkDefaults, LogSwitch, Namespace, RpcConfig, RpcLimits};
pub use errors::RpcError;
pub use server::{RpcServer, RpcServerHandle};
